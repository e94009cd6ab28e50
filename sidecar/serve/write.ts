// From tensors to the wire, in the encoding the request had. Hot path.
// W3 A raw request gets raw contents, a typed one typed contents; FP16 has no typed form, so an answer with FP16 is raw.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  InferTensorContents,
  InferTensorContentsSchema,
  ModelInferResponseSchema,
} from "#proto/inference/grpc_service_pb.ts";
import { bytesOf, isTexts, type Tensor } from "../runtime/door.ts";

type Response = MessageInitShape<typeof ModelInferResponseSchema>;
type Outputs = Required<Pick<Exclude<Response, { $typeName: string }>, "outputs" | "rawOutputContents">>;
type Contents = Partial<Omit<InferTensorContents, "$typeName" | "$unknown">>;

/** `outputs` and `raw_output_contents` of an answer. */
export function writeOutputs(tensors: readonly Tensor[], raw: boolean): Outputs {
  const asRaw = raw || tensors.some(({ datatype }) => datatype === "FP16");
  const outputs = tensors.map((tensor) => {
    const { name, datatype } = tensor;
    const shape = tensor.shape.map(BigInt);
    const contents: MessageInitShape<typeof InferTensorContentsSchema> = typedContents(tensor);
    return asRaw ? { name, datatype, shape } : { name, datatype, shape, contents };
  });
  return { outputs, rawOutputContents: asRaw ? tensors.map(rawContents) : [] };
}

function rawContents({ values }: Tensor): Uint8Array {
  if (!isTexts(values)) return bytesOf(values);
  const sizes = values.map((value) => Buffer.byteLength(value));
  const bytes = Buffer.allocUnsafe(sizes.reduce((sum, size) => sum + 4 + size, 0));
  let at = 0;
  values.forEach((value, i) => {
    at = bytes.writeUInt32LE(sizes[i] ?? 0, at);
    at += bytes.write(value, at);
  });
  return bytes;
}

function typedContents({ datatype, values }: Tensor): Contents {
  if (isTexts(values)) return { bytesContents: values.map((value) => Buffer.from(value)) };
  if (values instanceof BigInt64Array) return { int64Contents: [...values] };
  if (values instanceof BigUint64Array) return { uint64Contents: [...values] };
  const numbers = Array.from(values);
  switch (datatype) {
    case "BOOL":
      return { boolContents: numbers.map((value) => value !== 0) };
    case "INT8":
    case "INT16":
    case "INT32":
      return { intContents: numbers };
    case "UINT8":
    case "UINT16":
    case "UINT32":
      return { uintContents: numbers };
    case "FP64":
      return { fp64Contents: numbers };
    default:
      return { fp32Contents: numbers };
  }
}
