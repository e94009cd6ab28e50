// What commands may use of descriptions.
export { decodeDescription, type Problem } from "./decode.ts";
export { explain } from "./explain.ts";
