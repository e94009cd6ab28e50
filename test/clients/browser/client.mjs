// A page's program as a user writes it: Connect-Web, generated stubs; bundled for the browser and called by its test.
// A page can neither send streams nor read raw gRPC, so it holds the conversation without the two streams.
import { enumToJson } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { Deployments, DeploymentStateSchema } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Discovery } from "#proto/driftmesh/v1/discovery_pb.ts";
import { Feedback } from "#proto/driftmesh/v1/feedback_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { BadRequestSchema, ErrorInfoSchema } from "#proto/google/rpc/error_details_pb.ts";
import { Health, HealthCheckResponse_ServingStatusSchema as ServingSchema } from "#proto/grpc/health/v1/health_pb.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";

const TRANSPORTS = {
  "gRPC-Web": (baseUrl) => createGrpcWebTransport({ baseUrl }),
  Connect: (baseUrl) => createConnectTransport({ baseUrl, useBinaryFormat: true }),
  "Connect JSON": (baseUrl) => createConnectTransport({ baseUrl }),
};

const floats = (raw) => [...new Float32Array(raw.slice().buffer)];
const littleEndian = (values) => new Uint8Array(Float32Array.from(values).buffer);
const text = new TextDecoder();

/** BYTES in raw contents: each element after its length, 32 bits, little-endian. */
const withLengths = (texts) =>
  Uint8Array.from(
    texts.flatMap((one) => {
      const bytes = new TextEncoder().encode(one);
      return [...new Uint8Array(Uint32Array.of(bytes.length).buffer), ...bytes];
    }),
  );

function texts(raw) {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const all = [];
  for (let at = 0; at < raw.length; at += 4 + view.getUint32(at, true))
    all.push(text.decode(raw.subarray(at + 4, at + 4 + view.getUint32(at, true))));
  return all;
}

const rawly = (modelName, name, datatype, rows, raw) => ({
  modelName,
  inputs: [{ name, datatype, shape: [BigInt(rows), 1n] }],
  rawInputContents: [raw],
});
const typed = (modelName, name) => ({
  modelName,
  id: "my-id",
  inputs: [{ name, datatype: "FP32", shape: [2n, 1n], contents: { fp32Contents: [450, 900] } }],
});

/** Code, and what google.rpc says of it. */
async function refusal(promise) {
  const error = await promise.then(
    () => undefined,
    (thrown) => ConnectError.from(thrown),
  );
  if (error === undefined) throw new Error("expected a refusal");
  const [info] = error.findDetails(ErrorInfoSchema);
  const [bad] = error.findDetails(BadRequestSchema);
  const fields = bad?.fieldViolations.map(({ field }) => field);
  return { code: error.code, reason: info?.reason, domain: info?.domain, fields };
}

async function inferences(oip, heard) {
  heard.live = (await oip.serverLive({})).live;
  heard.ready = [];
  for (const name of ["flight-minutes", "airports"]) heard.ready.push((await oip.modelReady({ name })).ready);
  const { inputs, outputs } = await oip.modelMetadata({ name: "airports" });
  const tensor = ({ name, datatype, shape }) => ({ name, datatype, shape: shape.map(Number) });
  heard.metadata = { inputs: inputs.map(tensor), outputs: outputs.map(tensor) };
  const minutes = await oip.modelInfer(rawly("flight-minutes", "distance", "FP32", 2, littleEndian([450, 900])));
  heard.minutes = floats(minutes.rawOutputContents[0]);
  const answer = await oip.modelInfer(typed("flight-minutes", "distance"));
  heard.typed = answer.outputs[0].contents.fp32Contents;
  heard.echoed = answer.id;
  heard.inferenceId = answer.parameters.driftmesh_inference_id.parameterChoice.value;
  const named = await oip.modelInfer(rawly("airports", "code", "BYTES", 3, withLengths(["ZRH", "DUB", "XXX"])));
  heard.names = texts(named.rawOutputContents[0]);
  heard.hubs = floats(named.rawOutputContents[1]);
  heard.unknownModel = await refusal(oip.modelInfer(typed("nobody", "distance")));
  heard.wrongTensor = await refusal(oip.modelInfer(typed("flight-minutes", "miles")));
}

/** What the page hears over one protocol from the mesh at `url`. */
globalThis.converse = async (protocol, url, deployment) => {
  const transport = TRANSPORTS[protocol](url);
  const heard = { health: enumToJson(ServingSchema, (await createClient(Health, transport).check({})).status) };
  await inferences(createClient(GRPCInferenceService, transport), heard);

  const feedback = createClient(Feedback, transport);
  const labels = [0, 1].map((row) => ({ inferenceId: heard.inferenceId, row, value: 100 }));
  heard.accepted = (await feedback.sendLabels({ labels })).accepted;
  heard.foreignLabel = await refusal(feedback.sendLabels({ labels: [{ inferenceId: "inf_nonsense" }] }));

  const requirements = { features: [{ name: "distance" }], uses: ["distance"] };
  const { matches } = await createClient(Discovery, transport).findModels({ requirements });
  heard.found = matches.map(({ model }) => model);
  for await (const { state } of createClient(Deployments, transport).watchDeployment({ id: deployment })) {
    heard.watched = enumToJson(DeploymentStateSchema, state);
    break;
  }
  heard.unknownDescription = await refusal(createClient(Registry, transport).getModel({ name: "nobody" }));
  return JSON.stringify(heard);
};

/** The name of the code that a call from this page ends with; none when it is answered. */
globalThis.refusedCode = (protocol, url) =>
  createClient(Registry, TRANSPORTS[protocol](url))
    .listModels({})
    .then(
      () => "",
      (thrown) => Code[ConnectError.from(thrown).code],
    );
