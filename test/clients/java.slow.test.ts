import { cp } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { run } from "../kit/mesh.ts";
import { expectConversation } from "./conversation.ts";
import { cached, HERE, lacking, must, PROTO, skipped, type Stage, startStage } from "./stage.ts";

const lacks = await lacking("java", "mvn");
const SOURCE = join(HERE, "java");

describe.skipIf(lacks !== undefined)(skipped("Java", lacks), () => {
  let stage: Stage;
  let classes: string;
  beforeAll(async () => {
    classes = await build();
    stage = await startStage();
  }, 900_000);
  afterAll(() => stage?.[Symbol.asyncDispose](), 60_000);

  test("a program of grpc-java and generated stubs holds the whole conversation", async () => {
    expectConversation(await run(["java", "-cp", classes, "Client", stage.server, stage.deployment]));
  });
});

/** Its class path: classes and stubs compiled now, libraries from Maven's own cache. */
async function build(): Promise<string> {
  const files = ["pom.xml", "src/main/java/Client.java"].map((file) => join(SOURCE, file));
  const folder = await cached("java", files, (to) => cp(SOURCE, to, { recursive: true }));
  await must(["mvn", "--quiet", "--batch-mode", "compile", `-Dproto.folder=${PROTO}`], { cwd: folder });
  return [join(folder, "target/classes"), join(folder, "target/dependency/*")].join(delimiter);
}
