import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { driftmesh, eventually, ROOT, startMesh, type TestMesh } from "../kit/mesh.ts";

let mesh: TestMesh;
let folder: string;
const MINUTES = join(ROOT, "examples/flight-minutes/model.yaml");

beforeAll(async () => {
  mesh = await startMesh(["local:cpu=1,memory=1Gi", "clinic:cpu=1,memory=512Mi"]);
  folder = await mkdtemp(join(tmpdir(), "driftmesh-bad-"));
  await mesh.json("register", MINUTES, "--deploy");
}, 120_000);

afterAll(async () => {
  await mesh[Symbol.asyncDispose]();
}, 60_000);

const written = async (name: string, text: string): Promise<string> => {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
};

describe("names that do not exist", () => {
  test.each([
    ["a model", ["infer", "nobody", "--example"], "nobody", 69],
    ["a deployment", ["infer", "dep_nobody", "--example"], "dep_nobody", 69],
    ["a version", ["deploy", "flight-minutes:9"], "9", 69],
    ["an alias", ["deploy", "flight-minutes@nightly"], "nightly", 69],
    ["a node", ["deploy", "flight-minutes", "--strict", "--node", "attic"], "attic", 69],
    ["a deployment to release", ["decommission", "dep_aaaaaaaaaaaaaaaa"], "dep_aaaaaaaaaaaaaaaa", 69],
    ["a model to watch", ["drift", "nobody"], "nobody", 69],
    ["a decision", ["drift", "replay", "episode-9-9"], "episode-9-9", 69],
  ])("%s is named, and what to do is said", async (_what, args, name, code) => {
    const ended = await mesh.cli(...args);
    expect(ended.err).toContain(name);
    expect(ended.err).toMatch(/DM-\d{4}/);
    expect(ended.err).toContain("hint:");
    expect(ended.code).toBe(code);
  });

  test("an unknown model over gRPC is NOT_FOUND at once", async () => {
    await expect(mesh.inference.modelInfer({ modelName: "nobody" })).rejects.toMatchObject({ code: 5 });
  });
});

describe("tensors that do not fit", () => {
  const tensor = { name: "distance", datatype: "FP32", shape: [1n, 1n], contents: { fp32Contents: [1] } };
  test.each([
    ["name", { ...tensor, name: "miles" }, "distance"],
    ["datatype", { ...tensor, datatype: "FP64", contents: { fp64Contents: [1] } }, "FP32"],
    ["shape", { ...tensor, shape: [1n, 2n], contents: { fp32Contents: [1, 2] } }, "distance"],
    ["count", { ...tensor, shape: [3n, 1n] }, "distance"],
  ])("a wrong %s is INVALID_ARGUMENT and names the tensor", async (_what, input, name) => {
    const error = await mesh.inference
      .modelInfer({ modelName: "flight-minutes", inputs: [input] })
      .catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 3 });
    expect(String(error)).toContain(name);
  });

  test("a missing tensor is INVALID_ARGUMENT and names it", async () => {
    const error = await mesh.inference.modelInfer({ modelName: "flight-minutes", inputs: [] }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 3 });
    expect(String(error)).toContain("distance");
  });
});

describe("feedback", () => {
  test("a malformed id and a foreign id are refused, naming the field", async () => {
    const answer = await mesh.json("infer", "flight-minutes", "--example");
    const id = String(answer["inferenceId"]);
    const forged = `${id.slice(0, -4)}${id.slice(-4).replaceAll(/[a-z2-7]/g, (c) => (c === "a" ? "b" : "a"))}`;
    for (const wrong of ["inf_short", forged]) {
      const error = await mesh.feedback
        .sendLabels({ labels: [{ inferenceId: wrong, value: 1 }] })
        .catch((e: unknown) => e);
      expect(error).toMatchObject({ code: 3 });
      expect(String(error)).toMatch(/labels\[0\]/);
    }
  });

  test("an unknown row, a repeat and a contradiction are taken and counted, the unknown one after its time", async () => {
    const onnx = join(ROOT, "examples/flight-minutes/flight-minutes.onnx");
    const text = `name: told\nkind: regression\nrun_resources: { cpu: 0.1, memory: 128Mi }\nfeatures: [{ name: distance, type: number }]\ninference: { artifact: ${onnx} }\npolicy: { label_horizon_hours: 1, client_event_time: true, cache_grace_seconds: 1 }\n`;
    const told = await mesh.json("register", await written("told.yaml", text), "--deploy");
    const at = (time: string): Promise<Record<string, unknown>> =>
      mesh.json("infer", "told", "--example", "--event-time", time);
    const label = { inferenceId: String((await at("2026-01-01T10:00:00Z"))["inferenceId"]), value: 100 };
    const unknown = { ...label, row: 40_000 };
    // The third is the very batch of the second, as a client repeats it that heard no answer: taken, and not even stored.
    for (const labels of [[unknown], [label], [label], [label, unknown], [{ ...label, value: 50 }]])
      expect(await mesh.feedback.sendLabels({ labels })).toMatchObject({ accepted: labels.length });
    await eventually("a repeat and a correction", async () =>
      (await fateOf("repeated")) >= 1 && (await fateOf("corrected")) >= 1 ? true : undefined,
    );
    for (const day of ["02", "03", "04"]) await at(`2026-01-${day}T10:00:00Z`);
    await eventually("one labelled row", async () => {
      const { panes } = await mesh.drift.listPanes({ model: "told" });
      return panes.reduce((sum, pane) => sum + pane.labelled, 0n) === 1n ? true : undefined;
    });
    await eventually("an unmatched label", async () => ((await fateOf("unmatched")) >= 1 ? true : undefined));
    await mesh.json("decommission", String(told["deployment"]));
  }, 90_000);

  /** Labels that the drift service gave this fate, from its own metrics. */
  async function fateOf(fate: string): Promise<number> {
    const { services } = (await mesh.json("status", "--data", mesh.data)) as {
      services: { name: string; address: string }[];
    };
    const drift = services.find(({ name }) => name === "drift");
    const text = await (await fetch(`http://${drift?.address ?? ""}/metrics`)).text();
    return Number(new RegExp(`^driftmesh_drift_labels_total\\{.*fate="${fate}".*\\} (\\d+)`, "m").exec(text)?.[1] ?? 0);
  }
});

describe("registration", () => {
  test("a description with mistakes lists them all with line, column and the nearest name", async () => {
    const path = await written("wrong.yaml", "nam: x\nkind: binery-classification\npolicy: { tolerance: much }\n");
    const ended = await mesh.cli("register", path);
    expect(ended.code).toBe(2);
    for (const part of ["wrong.yaml:1:1", "did you mean name", "wrong.yaml:2:7", "wrong.yaml:3:22"])
      expect(ended.err).toContain(part);
  });

  test("a file that is no ONNX is refused with the reason", async () => {
    const path = await written("fake.onnx", "this is no model at all, only a sentence");
    const ended = await mesh.cli("register", path);
    expect(ended.code).not.toBe(0);
    expect(ended.err).toMatch(/ONNX/i);
  });

  test("features that do not fit the signature are named", async () => {
    const onnx = join(ROOT, "examples/flight-minutes/flight-minutes.onnx");
    const text = `name: misfit\nkind: regression\nfeatures:\n  - { name: height, type: number }\n  - { name: width, type: number }\ninference: { artifact: ${onnx} }\n`;
    const ended = await mesh.cli("register", await written("misfit.yaml", text));
    expect(ended.code).not.toBe(0);
    expect(ended.err).toContain("height");
    expect(ended.err).toContain("distance");
  });

  test("an artifact that was never uploaded is refused", async () => {
    const description = { name: "ghost", inference: { artifactSha256: "0".repeat(64) } };
    const error = await mesh.registry.registerModel({ description }).catch((e: unknown) => e);
    expect(String(error)).toMatch(/DM-(2011|1001)/);
  });

  test("an artifact with another hash than the description says is refused with both", async () => {
    const onnx = join(ROOT, "examples/flight-minutes/flight-minutes.onnx");
    const text = `name: forged\nkind: regression\nfeatures: [{ name: distance, type: number }]\ninference: { artifact: ${onnx}, artifact_sha256: "${"0".repeat(64)}" }\n`;
    const ended = await mesh.cli("register", await written("forged.yaml", text));
    expect(ended.code).toBe(2);
    expect(ended.err).toMatch(/inference\.artifact_sha256: the file has [0-9a-f]{64}, the description says 0{64}/);
    expect((await mesh.cli("describe", "model/forged")).code).toBe(64 + 5);
  });

  test("another description under a taken name is ALREADY_EXISTS", async () => {
    const onnx = join(ROOT, "examples/flight-minutes/flight-minutes.onnx");
    const ended = await mesh.cli("register", onnx, "--name", "flight-minutes");
    expect(ended.code).toBe(64 + 6);
    expect(ended.err).toContain("flight-minutes");
  });

  test("train code by git is stored, and running it is UNIMPLEMENTED with a sentence", async () => {
    const parquet = await written("data.parquet", "unused");
    const text = `name: by-git\nkind: regression\nfeatures: [{ name: x, type: number }]\ntrain_code: { git: "https://example.org/x.git", commit: ${"a".repeat(40)}, command: [node, t.ts] }\ntraining_data: { file: ${parquet} }\n`;
    const ended = await mesh.cli("register", await written("by-git.yaml", text));
    expect(ended.err).toMatch(/git/);
  });
});

describe("places", () => {
  test("strict without a node says what is missing", async () => {
    const ended = await mesh.cli("deploy", "flight-minutes", "--strict");
    expect(ended.err).toContain("DM-2010");
  });

  test("without room a deployment stays Pending, says what is missing, and goes on when there is room", async () => {
    const first = await mesh.json("deploy", "flight-minutes", "--strict", "--node", "clinic");
    const text = `name: large\nkind: regression\nrun_resources: { cpu: 0.1, memory: 500Mi }\nfeatures: [{ name: distance, type: number }]\ninference: { artifact: ${join(ROOT, "examples/flight-minutes/flight-minutes.onnx")} }\n`;
    await mesh.json("register", await written("large.yaml", text));
    const large = await mesh.json("deploy", "large", "--strict", "--node", "clinic", "--no-wait");
    const id = String(large["id"]);
    const pending = await eventually("a reason", async () => {
      const d = await mesh.deployments.getDeployment({ id });
      return d.reason.includes("memory") ? d : undefined;
    });
    expect(pending.reason).toContain("clinic");
    expect(pending.queuePosition).toBeGreaterThan(0);
    await mesh.json("decommission", String(first["id"]));
    await eventually(
      "Ready",
      async () => ((await mesh.deployments.getDeployment({ id })).state === 5 ? true : undefined),
      60_000,
    );
  }, 90_000);
});

describe("a machine that is not as it should be", () => {
  test("a taken port is named", async () => {
    const data = await mkdtemp(join(tmpdir(), "driftmesh-port-"));
    const ended = await driftmesh(["dev", "--detach", "--port", String(mesh.port), "--data", data]);
    expect(ended.code).not.toBe(0);
    expect(ended.err).toContain("DM-6004");
    expect(ended.err).toContain(String(mesh.port));
  });

  test("a second mesh on the same data folder is refused", async () => {
    const ended = await driftmesh(["dev", "--detach", "--port", "1", "--data", mesh.data]);
    expect(ended.code).not.toBe(0);
    expect(ended.err).toMatch(/DM-600[45]/);
  });

  test("an address beyond loopback is refused with a sentence", async () => {
    const ended = await driftmesh(["dev", "--host", "0.0.0.0"]);
    expect(ended.err).toContain("DM-6006");
  });
});
