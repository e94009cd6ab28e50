// What the rest of the gateway may know of its own answers.
export { corsOf } from "./cors.ts";
export { feedbackRoutes } from "./feedback.ts";
export { inferenceRoutes } from "./inference.ts";
export { takeMetrics } from "./metrics.ts";
export { encodedAnswers, ownAnswers } from "./own.ts";
export { page } from "./page.ts";
