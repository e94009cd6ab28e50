// What other folders may use of the API: its services.
export { type ApiDeps } from "./access.ts";
export { deploymentsService } from "./deployments.ts";
export { discoveryService } from "./discovery.ts";
export { meshService } from "./mesh.ts";
export { registryService } from "./registry.ts";
export { retrainingService } from "./retraining.ts";
export { rolloutsService } from "./rollouts.ts";
