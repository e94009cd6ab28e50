// `npm run fix`: format and safe fixes.
import { run } from "./run.ts";

for (const ended of [
  await run("buf format", ["buf", "format", "-w"]),
  await run("oxlint --fix", ["oxlint", "--fix"]),
  await run("oxfmt", ["oxfmt"]),
])
  process.stdout.write(`${ended.name}: ${ended.code === 0 ? "done" : ended.output}\n`);
