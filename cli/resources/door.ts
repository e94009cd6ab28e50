// What commands may use of the kinds of resources.
export { kindOf, KINDS } from "./kinds.ts";
