import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

const REPOSITORY = join(import.meta.dirname, "../..");
let folder: string;
let clone: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "driftmesh-install-"));
  clone = join(folder, "clone");
  const { out } = await exec("git", ["ls-files", "-co", "--exclude-standard", "-z"], { cwd: REPOSITORY });
  for (const path of out.split("\0").filter((name) => name !== "")) {
    await mkdir(join(clone, dirname(path)), { recursive: true });
    await cp(join(REPOSITORY, path), join(clone, path)).catch(() => undefined);
  }
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Ran = { code: number; out: string; said: string };
function exec(
  program: string,
  args: readonly string[],
  options: { cwd: string; env?: NodeJS.ProcessEnv },
): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Ran>();
  execFile(program, [...args], { ...options, maxBuffer: 64 << 20 }, (error, out, said) =>
    resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : 1, out, said }),
  );
  return promise;
}

test("a fresh clone with an empty cache installs itself, once, and finds a nats-server", async () => {
  const env = { ...process.env, npm_config_cache: join(folder, "cache"), NODE_COMPILE_CACHE: undefined };
  const call = (...args: readonly string[]): Promise<Ran> => exec(join(clone, "driftmesh"), args, { cwd: folder, env });
  const first = await call("--version");
  expect(first).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  expect(first.said).toMatch(/^driftmesh: installing dependencies, once .* done in \d+ s\n$/);
  expect(await call("--version")).toEqual({ code: 0, out: first.out, said: "" });
  const data = join(folder, "data");
  const dev = await call("dev", "--detach", "--port", "0", "--data", data, "-o", "json");
  expect(dev).toMatchObject({ code: 0 });
  expect(JSON.parse(dev.out)).toMatchObject({ data });
  expect((await call("stop", "--data", data)).code).toBe(0);
});
