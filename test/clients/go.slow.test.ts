import { cp, readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { run } from "../kit/mesh.ts";
import { expectConversation } from "./conversation.ts";
import { BUF, cached, goInstall, HERE, lacking, must, PROTO, skipped, type Stage, startStage } from "./stage.ts";

const lacks = await lacking("go");
const SOURCE = join(HERE, "go");
const PLUGINS = [
  "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12",
  "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
];

describe.skipIf(lacks !== undefined)(skipped("Go", lacks), () => {
  let stage: Stage;
  let client: string;
  beforeAll(async () => {
    client = join(await build(), "client");
    stage = await startStage();
  }, 900_000);
  afterAll(() => stage?.[Symbol.asyncDispose](), 60_000);

  test("a program of grpc-go and generated stubs holds the whole conversation", async () => {
    expectConversation(await run([client, stage.server, stage.deployment]));
  });
});

/** The program and stubs of the .proto files as they are now; tools and modules come from caches after the first time. */
async function build(): Promise<string> {
  const plugins = await cached("go-plugins", PLUGINS, (folder) => goInstall(folder, PLUGINS));
  const pins = (await readdir(SOURCE)).map((file) => join(SOURCE, file));
  const folder = await cached("go", pins, (to) => cp(SOURCE, to, { recursive: true }));
  const paths = ["driftmesh/v1", "inference"].flatMap((path) => ["--path", join(PROTO, path)]);
  const env = { PATH: `${plugins}:${process.env["PATH"] ?? ""}`, GOTOOLCHAIN: "local" };
  await must([BUF, "generate", PROTO, ...paths], { cwd: folder, env });
  await must(["go", "build", "-o", "client", "."], { cwd: folder, env });
  return folder;
}
