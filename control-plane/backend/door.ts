// What other folders may use of the backends.
export * from "./backend.ts";
export { MemoryBackend } from "./memory.ts";
export { modelMessage, processBackend } from "./process.ts";
