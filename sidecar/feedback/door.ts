// The way into feedback for the rest of the sidecar.
export { feedbackService, type StoreLabels } from "./service.ts";
