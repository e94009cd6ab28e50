// `npm run check`: format, lint, types, layers, habits, dead code, proto, generated code. Prints what broke and how long it took.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { dockerfileProblems } from "./dockerfile.ts";
import { layerProblems } from "./layers.ts";
import { run, type Ended } from "./run.ts";
import { ROOT, sources } from "./sources.ts";
import { tidyProblems } from "./tidy.ts";

const steps: Promise<Ended>[] = [
  run("types (tsc)", ["tsc", "-p", ".", "--noEmit"]),
  run("lint (oxlint)", ["oxlint", "--type-aware", "--deny-warnings"]),
  run("format (oxfmt)", ["oxfmt", "--check"]),
  run("dead code (knip)", ["knip", "--no-progress"]),
  run("proto lint (buf)", ["buf", "lint"]),
  run("proto format (buf)", ["buf", "format", "--diff", "--exit-code"]),
  run("proto breaking (buf)", ["buf", "breaking", "--against", "proto/released.binpb"]),
  run("generated code fresh", ["node", "scripts/gen.ts", "--check"]),
  own(),
];
const ended = await Promise.all(steps);
for (const step of ended) {
  process.stdout.write(`${step.code === 0 ? "ok  " : "FAIL"} ${step.name} (${step.seconds.toFixed(1)} s)\n`);
  if (step.code !== 0) process.stdout.write(`${step.output.trimEnd()}\n`);
}
process.exit(ended.every((step) => step.code === 0) ? 0 : 1);

async function own(): Promise<Ended> {
  const started = performance.now();
  const files = sources();
  const dockerfile = "deploy/docker/Dockerfile";
  const image = { path: dockerfile, text: readFileSync(join(ROOT, dockerfile), "utf8") };
  const problems = [...layerProblems(files), ...tidyProblems(files), ...dockerfileProblems(image)];
  const output = problems.map((p) => `${p.path}:${p.line} ${p.says}`).join("\n");
  const seconds = (performance.now() - started) / 1000;
  return Promise.resolve({ name: "layers and habits", code: problems.length === 0 ? 0 : 1, output, seconds });
}
