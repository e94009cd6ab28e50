// What other folders may use of sync.
export { syncService } from "./sync.ts";
