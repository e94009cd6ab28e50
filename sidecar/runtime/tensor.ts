// Tensors as the sidecar passes them: a datatype of the protocol, a shape, row-major values.
// T1 FP16 values are their bits in a Uint16Array; BOOL is one byte each; BYTES are UTF-8 texts.
// T2 A tensor over received bytes is a view where the bytes lie aligned, and a copy where they do not.
import type { Datatype } from "#kernel/domain/model.ts";

export type NumericValues =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;
export type TensorValues = NumericValues | readonly string[];

export type Tensor = { name: string; datatype: Datatype; shape: readonly number[]; values: TensorValues };

/** How a fixed-size datatype lies in memory. */
export type Element = {
  bytes: number;
  over: (buffer: ArrayBufferLike, offset: number, count: number) => NumericValues;
};

/** Every datatype that the runtime takes, but BYTES; BF16 is missing because onnxruntime-node cannot hold it. */
export const ELEMENTS: Readonly<Partial<Record<Datatype, Element>>> = {
  BOOL: { bytes: 1, over: (b, o, n) => new Uint8Array(b, o, n) },
  UINT8: { bytes: 1, over: (b, o, n) => new Uint8Array(b, o, n) },
  UINT16: { bytes: 2, over: (b, o, n) => new Uint16Array(b, o, n) },
  UINT32: { bytes: 4, over: (b, o, n) => new Uint32Array(b, o, n) },
  UINT64: { bytes: 8, over: (b, o, n) => new BigUint64Array(b, o, n) },
  INT8: { bytes: 1, over: (b, o, n) => new Int8Array(b, o, n) },
  INT16: { bytes: 2, over: (b, o, n) => new Int16Array(b, o, n) },
  INT32: { bytes: 4, over: (b, o, n) => new Int32Array(b, o, n) },
  INT64: { bytes: 8, over: (b, o, n) => new BigInt64Array(b, o, n) },
  FP16: { bytes: 2, over: (b, o, n) => new Uint16Array(b, o, n) },
  FP32: { bytes: 4, over: (b, o, n) => new Float32Array(b, o, n) },
  FP64: { bytes: 8, over: (b, o, n) => new Float64Array(b, o, n) },
};

/** `count` elements over little-endian bytes (T2). */
export function overBytes(element: Element, bytes: Uint8Array, count: number): NumericValues {
  if (bytes.byteOffset % element.bytes === 0) return element.over(bytes.buffer, bytes.byteOffset, count);
  return element.over(new Uint8Array(bytes).buffer, 0, count);
}

/** The bytes of numeric values, as they lie in memory. */
export function bytesOf(values: NumericValues): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Elements of a shape; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** Rows of a tensor: its first dimension; a scalar is one row. */
export function rowsOf(tensor: Pick<Tensor, "shape">): number {
  return tensor.shape[0] ?? 1;
}

/** One value as a number; NaN for a text that is none. */
export function numberAt({ datatype, values }: Tensor, index: number): number {
  const value = values[index];
  if (typeof value === "number") return datatype === "FP16" ? halfToNumber(value) : value;
  return value === undefined || value === "" ? Number.NaN : Number(value);
}

/** One value as a text; empty for NaN. */
export function textAt(tensor: Tensor, index: number): string {
  const value = tensor.values[index];
  if (typeof value === "string") return value;
  const number = numberAt(tensor, index);
  return typeof value === "bigint" ? value.toString() : Number.isNaN(number) ? "" : String(number);
}

/** The same tensor with only some of its rows. */
export function selectRows(tensor: Tensor, rows: readonly number[]): Tensor {
  const width = sizeOf(tensor.shape.slice(1));
  const shape = [rows.length, ...tensor.shape.slice(1)];
  if (isTexts(tensor.values)) {
    const texts = tensor.values;
    return { ...tensor, shape, values: rows.flatMap((row) => texts.slice(row * width, (row + 1) * width)) };
  }
  const element = ELEMENTS[tensor.datatype];
  if (element === undefined) return tensor;
  const source = bytesOf(tensor.values);
  const stride = width * element.bytes;
  const target = new Uint8Array(rows.length * stride);
  rows.forEach((row, i) => target.set(source.subarray(row * stride, (row + 1) * stride), i * stride));
  return { ...tensor, shape, values: element.over(target.buffer, 0, rows.length * width) };
}

export function isTexts(values: TensorValues): values is readonly string[] {
  return Array.isArray(values);
}

/** IEEE 754 half precision. */
export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
