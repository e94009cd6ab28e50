import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { until } from "./testing/wait.ts";
import { isAlive, lockDataFolder, processBegan } from "./lock.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "driftmesh-lock-"));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

it("refuses a second owner and names the first one's pid", async () => {
  await using lock = await lockDataFolder(dir);
  expect(lock.dir).toBe(dir);
  await expect(lockDataFolder(dir)).rejects.toThrow(`in use by another mesh with pid ${process.pid}`);
});

it("can be taken again after it was given back, and leaves one file", async () => {
  for (let i = 0; i < 5; i += 1) await (await lockDataFolder(dir))[Symbol.asyncDispose]();
  expect(await readdir(dir)).toHaveLength(1);
});

it("is taken over from a process that is gone", async () => {
  await writeFile(join(dir, ".lock.3"), JSON.stringify({ pid: 999_999_999, began: "1" }));
  await using _lock = await lockDataFolder(dir);
  await expect(lockDataFolder(dir)).rejects.toThrow("in use");
});

it("is taken over when the pid belongs to another program now", async () => {
  await writeFile(join(dir, ".lock.3"), JSON.stringify({ pid: process.pid, began: "long ago" }));
  await using _lock = await lockDataFolder(dir);
  expect(await readdir(dir)).toEqual([".lock.4"]);
});

it("goes to exactly one of many who try to take over at once", async () => {
  await writeFile(join(dir, ".lock.1"), JSON.stringify({ pid: 999_999_999, began: "1" }));
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => lockDataFolder(dir)));
  expect(results.filter((result) => result.status === "fulfilled")).toHaveLength(1);
  const refusals = results.flatMap((result) => (result.status === "rejected" ? [String(result.reason)] : []));
  for (const refusal of refusals) expect(refusal).toContain("in use by another mesh");
});

it("knows when a process has ended", async () => {
  const child = spawn(process.execPath, ["-e", "process.stdin.resume()"], { stdio: ["pipe", "ignore", "ignore"] });
  const pid = child.pid ?? 0;
  const who = { pid, began: (await processBegan(pid)) ?? "" };
  expect(await isAlive(who)).toBe(true);
  child.kill("SIGKILL");
  await until("the process is gone", async () => !(await isAlive(who)));
});
