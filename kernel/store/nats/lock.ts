// The folder lock is not NATS's own; it lives in kernel/store/lock.ts. This path stays until its last importer has moved.
export { isAlive, processBegan } from "../lock.ts";
