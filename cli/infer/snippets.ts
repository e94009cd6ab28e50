// `driftmesh infer --as ...`: the same call in other tongues, ready to paste.
import { toJson } from "@bufbuild/protobuf";
import { type ModelInferRequest, ModelInferRequestSchema } from "#proto/inference/grpc_service_pb.ts";

export const TONGUES = ["grpcurl", "curl", "ts", "python"] as const;
export type Tongue = (typeof TONGUES)[number];

const METHOD = "inference.GRPCInferenceService/ModelInfer";

/** The call as text that runs as it is, given the tool. */
export function snippetOf(tongue: Tongue, server: string, request: ModelInferRequest): string {
  const json = JSON.stringify(toJson(ModelInferRequestSchema, request));
  switch (tongue) {
    case "grpcurl":
      return `grpcurl -plaintext -d '${quoted(json)}' ${server} ${METHOD}\n`;
    case "curl":
      return `curl -H 'content-type: application/json' -d '${quoted(json)}' http://${server}/${METHOD}\n`;
    case "ts":
      return typescript(server, json);
    case "python":
      return python(server, request);
  }
}

const quoted = (json: string): string => json.replaceAll("'", String.raw`'\''`);

function typescript(server: string, json: string): string {
  return [
    'import { fromJson } from "@bufbuild/protobuf";',
    'import { createClient } from "@connectrpc/connect";',
    'import { createGrpcTransport } from "@connectrpc/connect-node";',
    'import { GRPCInferenceService, ModelInferRequestSchema } from "./gen/inference/grpc_service_pb.ts";',
    "",
    `const client = createClient(GRPCInferenceService, createGrpcTransport({ baseUrl: "http://${server}" }));`,
    `const answer = await client.modelInfer(fromJson(ModelInferRequestSchema, ${json}));`,
    'console.log(answer.parameters["driftmesh_inference_id"], answer.outputs);',
    "",
  ].join("\n");
}

const NUMPY: Readonly<Record<string, string>> = {
  FP32: "np.float32",
  FP64: "np.float64",
  INT64: "np.int64",
  INT32: "np.int32",
  BOOL: "np.bool_",
  BYTES: "object",
};

function python(server: string, request: ModelInferRequest): string {
  const lines = ["import numpy as np", "import tritonclient.grpc as triton", "", "inputs = []"];
  for (const input of request.inputs) {
    const c = input.contents;
    const values = c?.bytesContents.map((b) => new TextDecoder().decode(b)) ?? [];
    const numbers = [...(c?.fp32Contents ?? []), ...(c?.fp64Contents ?? []), ...(c?.intContents ?? [])];
    const whole = (c?.int64Contents ?? []).map(Number);
    const list = JSON.stringify(values.length > 0 ? values : numbers.length > 0 ? numbers : whole);
    const shape = `[${input.shape.join(", ")}]`;
    lines.push(`inputs.append(triton.InferInput("${input.name}", ${shape}, "${input.datatype}"))`);
    lines.push(
      `inputs[-1].set_data_from_numpy(np.array(${list}, dtype=${NUMPY[input.datatype] ?? "np.float32"}).reshape(${shape}))`,
    );
  }
  lines.push(`client = triton.InferenceServerClient("${server}")`);
  lines.push(`answer = client.infer("${request.modelName}", inputs)`, "print(answer.get_response())", "");
  return lines.join("\n");
}
