// One trace from a client through gateway and sidecar, from its label to the join, and from its order to the run.
import { copyFile, mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parquetWriteBuffer } from "hyparquet-writer";
import { expect, test } from "vitest";
import { startCollector } from "../kit/collector.ts";
import { eventually, ROOT, startMesh } from "../kit/mesh.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const headers = { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` };

test("spans of gateway, sidecar, join and run share the client's trace once an OTLP endpoint is set", async () => {
  await using collector = await startCollector();
  await using mesh = await startMesh(["local:cpu=2,memory=2Gi"], { DRIFTMESH_OTLP_ENDPOINT: collector.endpoint });
  await mesh.json("register", await minutesModel(), "--wait");
  await mesh.json("deploy", "minutes");
  const answer = await mesh.inference.modelInfer(
    {
      modelName: "minutes",
      inputs: [{ name: "distance", datatype: "FP32", shape: [1n, 1n], contents: { fp32Contents: [606] } }],
    },
    { headers },
  );
  const id = answer.parameters["driftmesh_inference_id"]?.parameterChoice;
  const inferenceId = id?.case === "stringParam" ? id.value : "";
  await mesh.feedback.sendLabels({ labels: [{ inferenceId, row: 0, value: 98 }] }, { headers });
  await mesh.retraining.orderRun({ model: "minutes", reason: "to see its trace", requestId: "trace" }, { headers });
  const wanted = [
    "gateway gateway.ModelInfer",
    "sidecar sidecar.ModelInfer",
    "gateway gateway.feedback",
    "drift drift.join",
    "control-plane control-plane.OrderRun",
    "agent agent.run",
  ];
  const found = (): string[] =>
    collector.seen().flatMap(({ service, name, trace }) => (trace === TRACE ? [`${service} ${name}`] : []));
  await eventually(
    `spans ${wanted.join(", ")} in one trace`,
    () => Promise.resolve(wanted.every((span) => found().includes(span)) ? true : undefined),
    60_000,
  ).catch((error: unknown) => {
    throw new Error(`seen: ${found().join(", ")}`, { cause: error });
  });
  expect(new Set(found())).toEqual(new Set(wanted));
});

/** A model whose train code hands out the example's ONNX file. */
async function minutesModel(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "driftmesh-trace-"));
  await mkdir(join(folder, "code"));
  await copyFile(join(ROOT, "examples/flight-minutes/flight-minutes.onnx"), join(folder, "code/given.onnx"));
  await writeFile(
    join(folder, "code/train.mjs"),
    `import { copyFileSync, writeFileSync } from "node:fs";
copyFileSync("given.onnx", process.env.DRIFTMESH_OUTPUT + "/model.onnx");
writeFileSync(process.env.DRIFTMESH_OUTPUT + "/metrics.json", "{}");
`,
  );
  const columnData = [
    { name: "event_time", data: [0n, 1n, 2n], type: "INT64" as const },
    { name: "distance", data: [100, 600, 900], type: "DOUBLE" as const },
    { name: "label", data: [40, 98, 150], type: "DOUBLE" as const },
  ];
  await writeFile(join(folder, "data.parquet"), new Uint8Array(parquetWriteBuffer({ columnData })));
  const path = join(folder, "minutes.yaml");
  await writeFile(
    path,
    `name: minutes
kind: regression
features: [{ name: distance, type: number }]
train_code: { folder: code, command: [node, train.mjs] }
training_data: { file: data.parquet }
`,
  );
  return path;
}
