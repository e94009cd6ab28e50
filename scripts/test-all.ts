// `npm run test:all`: everything of `driftmesh test` at the stated sizes, the slow tests, and the story at other speeds and thinnings.
// Writes test/reports/all.md with commit and machine; a step that fails makes the exit code 1.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { run, type Ended } from "./run.ts";
import { ROOT } from "./sources.ts";

const vitest = (config: string): string[] => ["vitest", "run", "--config", config];
const demo = (...args: string[]): string[] => ["./driftmesh", "demo", "--port", "4811", ...args];
const STEPS: readonly (readonly [string, readonly string[]])[] = [
  ["unit", vitest("test/vitest.config.ts")],
  ["simulation, 200 seeds", ["node", "test/sim/main.ts", "--seeds", "200"]],
  ["integration, stated sizes", vitest("test/vitest.integration.config.ts")],
  ["slow: Python, the natural days in three thinnings", vitest("test/vitest.slow.config.ts")],
  ["end to end", vitest("test/vitest.e2e.config.ts")],
  ["the story at half speed", demo("--speed", "27000")],
  ["the story at double speed", demo("--speed", "108000")],
  ["the story, every 10th from 3", demo("--offset", "3")],
  ["the story, every 10th from 7", demo("--offset", "7")],
];

process.env["DRIFTMESH_TEST_ALL"] = "1";
const results: Ended[] = [];
for (const [name, command] of STEPS) {
  process.stdout.write(`${name} ...\n`);
  const ended = await run(name, command);
  results.push(ended);
  process.stdout.write(`${ended.code === 0 ? "ok" : "FAIL"} ${name} (${ended.seconds.toFixed(0)} s)\n`);
  if (ended.code !== 0) process.stdout.write(`${ended.output.slice(-4000)}\n`);
}
const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: ROOT, encoding: "utf8" }).trim();
const report = [
  "# test:all",
  "",
  `Commit ${commit}, ${cpus().length} cores of ${cpus()[0]?.model.trim() ?? "unknown"}, Node ${process.version}.`,
  "",
  "| step | result | seconds | last line |",
  "|---|---|---|---|",
  ...results.map(
    (r) =>
      `| ${r.name} | ${r.code === 0 ? "passed" : `failed (${r.code})`} | ${r.seconds.toFixed(0)} | ${lastLine(r.output)} |`,
  ),
  "",
].join("\n");
mkdirSync(join(ROOT, "test/reports"), { recursive: true });
writeFileSync(join(ROOT, "test/reports/all.md"), report);
process.exit(results.every((r) => r.code === 0) ? 0 : 1);

function lastLine(output: string): string {
  const plain = stripVTControlCharacters(output);
  const claims = plain.split("\n").filter((line) => /FAILS:|Tests {2}/.test(line));
  return (claims.at(-1) ?? plain.trimEnd().split("\n").at(-1) ?? "").trim().replaceAll("|", "/");
}
