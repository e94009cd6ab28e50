import { cp, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "./run.ts";
import { ROOT } from "./sources.ts";

test("a changed type of a released field is refused by name", async () => {
  const folder = await mkdtemp(join(tmpdir(), "driftmesh-breaking-"));
  await cp(join(ROOT, "proto"), join(folder, "proto"), { recursive: true });
  await cp(join(ROOT, "buf.yaml"), join(folder, "buf.yaml"));
  const path = join(folder, "proto/driftmesh/v1/feedback.proto");
  await writeFile(path, (await readFile(path, "utf8")).replace("double value = 3;", "string value = 3;"));
  const ended = await run("buf breaking", [
    "buf",
    "breaking",
    folder,
    "--against",
    join(folder, "proto/released.binpb"),
  ]);
  expect(ended.code).not.toBe(0);
  expect(ended.output).toContain("value");
});
