// What commands may use of the kinds of resources.
export { type Kind, kindOf, KINDS } from "./kinds.ts";
