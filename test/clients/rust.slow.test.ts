import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { run } from "../kit/mesh.ts";
import { expectConversation } from "./conversation.ts";
import { BUF, cacheOf, HERE, lacking, must, PROTO, skipped, type Stage, startStage } from "./stage.ts";

const lacks = await lacking("cargo", "cc");

describe.skipIf(lacks !== undefined)(skipped("Rust", lacks), () => {
  let stage: Stage;
  let client: string;
  beforeAll(async () => {
    client = await build();
    stage = await startStage();
  }, 900_000);
  afterAll(() => stage?.[Symbol.asyncDispose](), 60_000);

  test("a program of tonic and generated stubs holds the whole conversation", async () => {
    expectConversation(await run([client, stage.server, stage.deployment]));
  });
});

/** The program, built by cargo into its own target folder under .cache: a second time only what changed. */
async function build(): Promise<string> {
  const target = cacheOf("rust");
  await mkdir(target, { recursive: true });
  const descriptors = join(target, "descriptors.binpb");
  const paths = ["driftmesh/v1", "inference"].flatMap((path) => ["--path", join(PROTO, path)]);
  await must([BUF, "build", PROTO, ...paths, "-o", descriptors]);
  const env = { DESCRIPTORS: descriptors, CARGO_TARGET_DIR: target };
  await must(["cargo", "build", "--quiet", "--locked"], { cwd: join(HERE, "rust"), env });
  return join(target, "debug/clients");
}
