// What other folders may use of the world.
export * from "./select.ts";
export { alike } from "./alike.ts";
export { follow } from "./follow.ts";
export {
  type BootState,
  type ClaimMark,
  type FactState,
  type GroupedName,
  groupOf,
  OWN_KEYS,
  type TableName,
  type Tables,
} from "./tables.ts";
export { type Held, type View, World } from "./world.ts";
