// The way into runtimes for the rest of the sidecar.
export { exampleInputs, numericValues, rowShape, type ExampleRow } from "./example.ts";
export { loadOnnx } from "./onnx.ts";
export type { Runtime } from "./runtime.ts";
export { columnsOf, planFeatures, scoresOf, type Column, type FeatureSource } from "./score.ts";
export {
  bytesOf,
  ELEMENTS,
  isTexts,
  overBytes,
  rowsOf,
  selectRows,
  sizeOf,
  type Tensor,
  type TensorValues,
} from "./tensor.ts";
