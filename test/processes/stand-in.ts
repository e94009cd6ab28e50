// A folder that looks like the repository to the agent: the real agent, and services of a few lines in the place of the real ones.
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const REPOSITORY = join(import.meta.dirname, "../..");

const SERVICE = `
import { runService } from "${REPOSITORY}/kernel/process/run.ts";
import { createServer } from "node:net";
await runService("stand-in", async ({ env }) => {
  const [host, port] = (env["DRIFTMESH_LISTEN"] ?? "127.0.0.1:0").split(":");
  const server = createServer();
  await new Promise((resolve, reject) => server.once("error", reject).listen(Number(port), host, () => resolve(undefined)));
  return {
    address: host + ":" + server.address().port,
    [Symbol.asyncDispose]: async () => void server.close(),
  };
});
`;

/** Its behaviour is the model's name: \`crash\` exits 7 at once, everything else serves. */
const SIDECAR = `
const spec = JSON.parse(process.env["DRIFTMESH_REPLICA"] ?? "{}");
if (spec.model?.model === "crash") process.exit(7);
${SERVICE}
`;

const PROBE = `
import { readFileSync, writeFileSync } from "node:fs";
const order = JSON.parse(readFileSync(process.env["DRIFTMESH_PROBE"], "utf8"));
const content = readFileSync(order.artifact, "utf8");
const check = content.startsWith("onnx")
  ? { ok: true, signature: { inputs: [{ name: "x", datatype: "FP32", shape: [-1, 1] }], outputs: [] }, scoreOutput: "y", scoreKind: "value", features: [{ name: "x", type: "number" }], metrics: { baseline: 0.5 } }
  : { ok: false, problem: "model.onnx cannot be loaded" };
writeFileSync(order.out + "/profile.json", "{}");
writeFileSync(order.out + "/check.json", JSON.stringify(check));
`;

export type StandIn = AsyncDisposable & { root: string; data: string };

/** Makes the folder; disposing removes it. */
export async function standIn(): Promise<StandIn> {
  const folder = await mkdtemp(join(tmpdir(), "driftmesh-test-"));
  const root = join(folder, "root");
  const place = async (path: string, text: string): Promise<void> => {
    await mkdir(join(root, path, ".."), { recursive: true });
    await writeFile(join(root, path), text);
  };
  await place("package.json", `{"type":"module"}`);
  await place("agent/main.ts", `import "${REPOSITORY}/agent/main.ts";\n`);
  for (const service of ["control-plane", "drift", "gateway"]) await place(`${service}/main.ts`, SERVICE);
  await place("sidecar/main.ts", SIDECAR);
  await place("sidecar/probe/main.ts", PROBE);
  await mkdir(join(root, "node_modules"));
  await symlink(join(REPOSITORY, ".cache"), join(root, ".cache"));
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true, maxRetries: 5 });
  return { root, data: join(folder, "data"), [Symbol.asyncDispose]: remove };
}
