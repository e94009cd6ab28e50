// What the rest of the gateway may know of forwarding.
export { InferenceForwarder } from "./infer.ts";
export { Proxy } from "./proxy.ts";
export { callReplica } from "./unary.ts";
export { Upstreams } from "./upstreams.ts";
export { Deadlines } from "./deadlines.ts";
