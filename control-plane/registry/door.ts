// What other folders may use of the registry.
export {
  decodeDescription,
  descriptionMessage,
  featureMessage,
  resourcesMessage,
  tensorMessage,
} from "./description.ts";
export { KINDS } from "./check.ts";
export { moveAlias, tracks } from "./tracks.ts";
