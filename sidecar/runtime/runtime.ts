// What every model runtime does: says its signature, answers tensors with tensors.
import type { Signature } from "#kernel/domain/model.ts";
import type { Tensor } from "./tensor.ts";

/** A loaded model. Inputs have been checked against the signature before `infer` is called. */
export interface Runtime extends AsyncDisposable {
  /** What the file itself says; a dimension of any size is -1. */
  readonly signature: Signature;
  /** Every output, in the order of the signature. Throws what the model's runtime said. */
  infer(inputs: readonly Tensor[]): Promise<Tensor[]>;
}
