// The check as the agent starts it: one order in, one answer out, and the exit code says only that there is an answer.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { logisticModel } from "../runtime/testing/onnx.ts";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const run = promisify(execFile);

test.each([
  ["a model", logisticModel([1, 2]), { ok: true }],
  ["something else", Buffer.from("GIF89a"), { ok: false, code: "DM-5001" }],
])("a process checks %s and answers in check.json", async (_, content, expected) => {
  const out = await mkdtemp(join(tmpdir(), "dm-check-"));
  const artifact = join(out, "model.onnx");
  await writeFile(artifact, content);
  const order = join(out, "order.json");
  const example = JSON.stringify({ f0: 1, f1: 2 });
  await writeFile(
    order,
    JSON.stringify({ model: { model: "m" }, kind: "", artifact, manifest: "", ancestorProfile: "", example, out }),
  );
  await run(process.execPath, [MAIN], { env: { PATH: process.env["PATH"], DRIFTMESH_PROBE: order } });
  expect(JSON.parse(await readFile(join(out, "check.json"), "utf8"))).toMatchObject(expected);
});
