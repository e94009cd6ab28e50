// What other folders may use of the registry.
export {
  decodeDescription,
  descriptionMessage,
  featureMessage,
  kindMessage,
  resourcesMessage,
  tensorMessage,
} from "./description.ts";
export { moveAlias, tracks } from "./tracks.ts";
