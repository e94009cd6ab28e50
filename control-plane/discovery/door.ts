// What other folders may use of discovery.
export { findModels, type Requirements } from "./find.ts";
