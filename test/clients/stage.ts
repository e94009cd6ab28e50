// A mesh for foreign clients: flight-minutes (FP32), a model with texts in and out (BYTES), and one deployment to watch.
// C1 What a chain builds is kept in .cache/clients-<language> under a digest of its pins; a broken build leaves no folder.
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeModel } from "../../examples/flights/onnx.ts";
import { type Ended, ROOT, run, startMesh } from "../kit/mesh.ts";

export const HERE = fileURLToPath(new URL(".", import.meta.url));
export const PROTO = join(ROOT, "proto");
export const BUF = join(ROOT, "node_modules/.bin/buf");

/** What the mesh of every test of this folder serves, and where. */
export type Stage = Awaited<ReturnType<typeof startStage>>;

/** Starts a mesh with `flight-minutes` and `airports` deployed; `await using` ends it. */
export async function startStage() {
  const mesh = await startMesh();
  const folder = await mkdtemp(join(tmpdir(), "driftmesh-clients-"));
  const end = async (): Promise<void> => {
    await mesh[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await writeFile(join(folder, "airports.onnx"), airports());
    await mesh.json("register", join(folder, "airports.onnx"), "--deploy");
    const minutes = await mesh.json("register", join(ROOT, "examples/flight-minutes/model.yaml"), "--deploy");
    const { server, cli } = mesh;
    return {
      server,
      cli,
      url: `http://${server}`,
      deployment: String(minutes["deployment"]),
      [Symbol.asyncDispose]: end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** `name` and `hub` of `code`, all [-1, 1]: what an airport is called, and whether it is a hub. */
const airports = (): Uint8Array =>
  writeModel({
    name: "airports",
    inputs: [{ name: "code", element: "string", shape: [-1, 1] }],
    outputs: [
      { name: "name", element: "string", shape: [-1, 1] },
      { name: "hub", element: "float", shape: [-1, 1] },
    ],
    nodes: [
      encoder("name", { values_strings: ["Dublin", "Zürich", "Atlanta"], default_string: "" }),
      encoder("hub", { values_floats: Float32Array.of(0, 0, 1), default_float: -1 }),
    ],
    constants: [],
  });

const encoder = (output: string, values: Record<string, Float32Array | readonly string[] | string | number>) => ({
  op: "LabelEncoder",
  domain: "ai.onnx.ml" as const,
  inputs: ["code"],
  outputs: [output],
  attributes: { keys_strings: ["DUB", "ZRH", "ATL"], ...values },
});

/** The first of these programs that the PATH lacks; undefined when all are there. */
export async function lacking(...programs: readonly string[]): Promise<string | undefined> {
  for (const program of programs) {
    const places = program.startsWith("/")
      ? [program]
      : (process.env["PATH"] ?? "").split(delimiter).map((at) => join(at, program));
    const found = await Promise.all(
      places.map((at) =>
        access(at, constants.X_OK).then(
          () => true,
          () => false,
        ),
      ),
    );
    if (!found.includes(true)) return program;
  }
  return undefined;
}

/** Where what a chain builds is kept; git ignores it. */
export const cacheOf = (language: string): string => join(ROOT, ".cache", `clients-${language}`);

/** A folder of what `build` makes from `pins` (files or words); built once, then taken from .cache (C1). */
export async function cached(
  language: string,
  pins: readonly string[],
  build: (folder: string) => Promise<void>,
): Promise<string> {
  const digest = createHash("sha256");
  for (const pin of pins) digest.update(pin.startsWith("/") ? await readFile(pin) : pin).update("\0");
  const folder = cacheOf(language);
  const stamp = join(folder, ".pins");
  const wanted = digest.digest("hex");
  if ((await readFile(stamp, "utf8").catch(() => "")) === wanted) return folder;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await build(folder);
  await writeFile(`${stamp}.new`, wanted);
  await rename(`${stamp}.new`, stamp);
  return folder;
}

/** Runs a program that must succeed; fails with all it said. */
export async function must(
  command: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<Ended> {
  const ended = await run(command, options);
  if (ended.code !== 0) throw new Error(`${command.join(" ")} ended with ${ended.code}\n${ended.out}${ended.err}`);
  return ended;
}

/** The title of tests that need a tool chain: names what the machine lacks when they are skipped. */
export const skipped = (title: string, lacks: string | undefined): string =>
  lacks === undefined ? title : `${title} (skipped: this machine has no ${lacks})`;

/** `go install` of modules with versions into a folder, by the Go of this machine. */
export async function goInstall(folder: string, modules: readonly string[]): Promise<void> {
  for (const module of modules) await must(["go", "install", module], { env: { GOBIN: folder, GOTOOLCHAIN: "local" } });
}
