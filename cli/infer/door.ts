// What commands may use to build and read inferences.
export { answerOf, requestOf, type Row } from "./tensors.ts";
export { snippetOf, TONGUES, type Tongue } from "./snippets.ts";
