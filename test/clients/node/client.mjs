// A Node program as a user writes it: grpc-js and proto-loader (protobufjs), the .proto files, none of our code.
// node client.mjs HOST:PORT DEPLOYMENT PROTO_FOLDER
import { createRequire } from "node:module";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";

// proto-loader comes with grpc-js.
const loader = createRequire(import.meta.resolve("@grpc/grpc-js"))("@grpc/proto-loader");
const [server, deployment, protoFolder] = process.argv.slice(2);
const load = (...files) =>
  loader.loadSync(files, { includeDirs: [protoFolder], keepCase: true, longs: Number, enums: String, defaults: true });
const definition = load(
  "inference/grpc_service.proto",
  "grpc/health/v1/health.proto",
  ...["deployments", "discovery", "feedback", "registry"].map((name) => join("driftmesh/v1", `${name}.proto`)),
);
const details = load("google/rpc/status.proto", "google/rpc/error_details.proto");
const api = grpc.loadPackageDefinition(definition);

const clients = [];
const open = (Service) => {
  const client = new Service(server, grpc.credentials.createInsecure());
  clients.push(client);
  return client;
};
const oip = open(api.inference.GRPCInferenceService);
const feedback = open(api.driftmesh.v1.Feedback);
const discovery = open(api.driftmesh.v1.Discovery);
const deployments = open(api.driftmesh.v1.Deployments);
const registry = open(api.driftmesh.v1.Registry);
const health = open(api.grpc.health.v1.Health);

const call = (client, method, request, seconds = 20) =>
  new Promise((resolve, reject) =>
    client[method](request, { deadline: Date.now() + seconds * 1000 }, (error, reply) =>
      error === null ? resolve(reply) : reject(error),
    ),
  );

const decode = (name, bytes) => details[name].deserialize(bytes);

/** Code, and what google.rpc says of it. */
async function refusal(promise) {
  const error = await promise.then(
    () => undefined,
    (thrown) => thrown,
  );
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const status = decode("google.rpc.Status", bytes);
  const told = { code: error.code };
  for (const { type_url: url, value } of status.details) {
    const name = url.split("/").at(-1);
    if (name === "google.rpc.ErrorInfo") {
      const info = decode(name, value);
      Object.assign(told, { reason: info.reason, domain: info.domain });
    } else if (name === "google.rpc.BadRequest")
      told.fields = decode(name, value).field_violations.map(({ field }) => field);
  }
  return told;
}

/** The first message of a stream that goes on. */
const first = (stream) =>
  new Promise((resolve, reject) => {
    stream.once("data", (message) => {
      resolve(message);
      stream.on("error", () => undefined).cancel();
    });
    stream.once("error", reject);
  });

/** Sends all, half-closes, and gathers the answers. */
async function exchange(stream, requests) {
  for (const request of requests) stream.write(request);
  stream.end();
  const replies = [];
  for await (const reply of stream) replies.push(reply);
  return replies;
}

const floats = (bytes) => Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4));
const littleEndian = (values) => Buffer.from(Float32Array.from(values).buffer);
/** BYTES in raw contents: each element after its length, 32 bits, little-endian. */
const withLengths = (texts) =>
  Buffer.concat(
    texts.flatMap((text) => [Buffer.from(Uint32Array.of(Buffer.byteLength(text)).buffer), Buffer.from(text)]),
  );
function texts(bytes) {
  const all = [];
  for (let at = 0; at < bytes.length; at += 4 + bytes.readUInt32LE(at))
    all.push(bytes.toString("utf8", at + 4, at + 4 + bytes.readUInt32LE(at)));
  return all;
}

const distances = (values) => ({
  model_name: "flight-minutes",
  inputs: [{ name: "distance", datatype: "FP32", shape: [values.length, 1] }],
  raw_input_contents: [littleEndian(values)],
});
const typed = (name) => ({
  model_name: "flight-minutes",
  id: "my-id",
  inputs: [{ name, datatype: "FP32", shape: [2, 1], contents: { fp32_contents: [450, 900] } }],
});

const heard = {};
heard.health = (await call(health, "Check", { service: "" })).status;
heard.live = (await call(oip, "ServerLive", {})).live;
heard.ready = [];
for (const name of ["flight-minutes", "airports"]) heard.ready.push((await call(oip, "ModelReady", { name })).ready);
const { inputs, outputs } = await call(oip, "ModelMetadata", { name: "airports" });
heard.metadata = { inputs, outputs };

const minutes = await call(oip, "ModelInfer", distances([450, 900]));
heard.minutes = floats(minutes.raw_output_contents[0]);
const answer = await call(oip, "ModelInfer", typed("distance"));
heard.typed = answer.outputs[0].contents.fp32_contents;
heard.echoed = answer.id;
heard.inferenceId = answer.parameters.driftmesh_inference_id.string_param;
const named = await call(oip, "ModelInfer", {
  model_name: "airports",
  inputs: [{ name: "code", datatype: "BYTES", shape: [3, 1] }],
  raw_input_contents: [withLengths(["ZRH", "DUB", "XXX"])],
});
heard.names = texts(named.raw_output_contents[0]);
heard.hubs = floats(named.raw_output_contents[1]);
heard.streamed = await refusal(exchange(oip.ModelStreamInfer(), [distances([450])]));

const labels = [0, 1].map((row) => ({ inference_id: heard.inferenceId, row, value: 100 }));
heard.accepted = (await call(feedback, "SendLabels", { labels })).accepted;
const acks = await exchange(feedback.StreamLabels(), [{ number: 7, labels }]);
heard.acknowledged = acks[0].acknowledged;

const requirements = { features: [{ name: "distance" }], uses: ["distance"] };
heard.found = (await call(discovery, "FindModels", { requirements })).matches.map(({ model }) => model);
heard.watched = (await first(deployments.WatchDeployment({ id: deployment }))).state;

heard.unknownModel = await refusal(call(oip, "ModelInfer", { ...typed("distance"), model_name: "nobody" }));
heard.unknownDescription = await refusal(call(registry, "GetModel", { name: "nobody" }));
heard.wrongTensor = await refusal(call(oip, "ModelInfer", typed("miles")));
heard.foreignLabel = await refusal(call(feedback, "SendLabels", { labels: [{ inference_id: "inf_nonsense" }] }));

for (const client of clients) client.close();
console.log(JSON.stringify(heard));
