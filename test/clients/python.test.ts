import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { run } from "../kit/mesh.ts";
import { expectConversation } from "./conversation.ts";
import { cached, HERE, lacking, must, PROTO, skipped, type Stage, startStage } from "./stage.ts";

// What the pinned packages need; Debian has venv in a package of its own.
const SUITS = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))";
const suits = async (): Promise<boolean> => (await run(["python3", "-c", SUITS])).code === 0;
const lacks = (await lacking("python3")) ?? ((await suits()) ? undefined : "Python 3.11 or newer with venv");
const REQUIREMENTS = join(HERE, "python/requirements.txt");

describe.skipIf(lacks !== undefined)(skipped("Python", lacks), () => {
  let stage: Stage;
  let venv: string;
  beforeAll(async () => {
    venv = await cached("python", [REQUIREMENTS], install);
    await must([join(venv, "bin/python"), ...(await stubs(venv))]);
    stage = await startStage();
  }, 300_000);
  afterAll(() => stage?.[Symbol.asyncDispose](), 60_000);

  test.each(["tritonclient", "grpcio"])("a program of %s holds the whole conversation", async (library) => {
    const program = [join(venv, "bin/python"), join(HERE, "python/client.py")];
    const env = { PYTHONPATH: join(venv, "stubs"), PYTHONDONTWRITEBYTECODE: "1" };
    expectConversation(await run([...program, library, stage.server, stage.deployment], { env }));
  });
});

async function install(folder: string): Promise<void> {
  await must(["python3", "-m", "venv", folder]);
  const pip = [join(folder, "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
  await must([...pip, "--no-deps", "-r", REQUIREMENTS]);
}

/** The command of grpcio-tools that writes stubs of our protocol; google.rpc and grpc.health come with packages. */
async function stubs(venv: string): Promise<string[]> {
  const out = join(venv, "stubs");
  await mkdir(out, { recursive: true });
  const files = await readdir(join(PROTO, "driftmesh/v1"));
  const ours = [...files.map((file) => join("driftmesh/v1", file)), "inference/grpc_service.proto"];
  return ["-m", "grpc_tools.protoc", `-I${PROTO}`, `--python_out=${out}`, `--grpc_python_out=${out}`, ...ours];
}
