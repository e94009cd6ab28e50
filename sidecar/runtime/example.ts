// Rows to try a model with: an example by feature name, or zeros and empty texts where there is none.
import type { Signature, TensorSpec } from "#kernel/domain/model.ts";
import { ELEMENTS, sizeOf, type Tensor, type TensorValues } from "./tensor.ts";
import { planFeatures, type FeatureSource } from "./score.ts";

export type ExampleRow = Readonly<Record<string, unknown>>;

/** Inputs of one row for each example; what an example does not name is zero or empty. */
export function exampleInputs(
  signature: Signature,
  features: readonly { name: string; type: "number" | "category" }[],
  examples: readonly ExampleRow[],
): Tensor[] {
  const rows = Math.max(1, examples.length);
  const plan = planFeatures(features, signature.inputs);
  const sources = plan.kind === "ok" ? plan.sources : [];
  return signature.inputs.map((spec, input) => {
    const shape = rowShape(spec, rows);
    const mine = sources.filter((source) => source.input === input);
    return { name: spec.name, datatype: spec.datatype, shape, values: fill(spec, { shape, mine, examples }) };
  });
}

function fill(
  spec: TensorSpec,
  {
    shape,
    mine,
    examples,
  }: { shape: readonly number[]; mine: readonly FeatureSource[]; examples: readonly ExampleRow[] },
): TensorValues {
  const size = sizeOf(shape);
  const stride = sizeOf(shape.slice(1));
  const texts = new Array<string>(size).fill("");
  const numbers = new Array<number>(size).fill(0);
  examples.forEach((example, row) => {
    for (const { feature, offset, width } of mine) {
      const given = example[feature.name] ?? example[spec.name];
      const list: unknown[] = Array.isArray(given)
        ? given
        : new Array<unknown>(width === 0 ? stride : width).fill(given);
      list.slice(0, width === 0 ? stride : width).forEach((value, i) => {
        const index = row * stride + offset + i;
        texts[index] =
          typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value);
        numbers[index] = Number(value ?? 0);
      });
    }
  });
  return spec.datatype === "BYTES" ? texts : numericValues(spec, numbers);
}

/** Numbers as the values of a tensor of this datatype. */
export function numericValues(spec: Pick<TensorSpec, "datatype">, numbers: ArrayLike<number>): TensorValues {
  const element = ELEMENTS[spec.datatype] ?? ELEMENTS.FP32;
  if (element === undefined) return [];
  const values = element.over(new ArrayBuffer(numbers.length * element.bytes), 0, numbers.length);
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i] ?? 0;
    if (values instanceof BigInt64Array || values instanceof BigUint64Array)
      values[i] = BigInt(Math.trunc(number) || 0);
    else values[i] = spec.datatype === "FP16" ? numberToHalf(number) : number;
  }
  return values;
}

/** The shape with rows in the first place and 1 for every other size that is free. */
export function rowShape(spec: TensorSpec, rows: number): number[] {
  return spec.shape.map((dim, place) => (dim >= 0 ? dim : place === 0 ? rows : 1));
}

/** Bits of the nearest half; beyond its range it is infinite. */
export function numberToHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(size)) return 0x7e00;
  if (size >= 65_520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | Math.round(size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  const rounded = Math.round((size / 2 ** exponent - 1) * 1024);
  return sign | ((exponent + 15 + (rounded === 1024 ? 1 : 0)) << 10) | (rounded % 1024);
}
