// `npm run bench [name] [--tiny]`: the workloads people quote. Each writes bench/reports/<name>.md with commit and machine.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { serving } from "./serving/serving.ts";

/** Each bench returns the body of its report in Markdown. */
const BENCHES: Readonly<Record<string, (options: { tiny: boolean }) => Promise<string>>> = { serving };

const tiny = process.argv.includes("--tiny");
const named = process.argv.slice(2).filter((arg) => !arg.startsWith("--"));
for (const name of named.length > 0 ? named : Object.keys(BENCHES)) {
  const bench = BENCHES[name];
  if (bench === undefined) throw new Error(`no bench is called ${name}: ${Object.keys(BENCHES).join(", ")}`);
  const body = await bench({ tiny });
  const report = `# bench ${name}\n\n${machine(name)}\n\n${body}`;
  process.stdout.write(`${report}\n`);
  if (tiny) continue;
  const folder = new URL("reports/", import.meta.url);
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL(`${name}.md`, folder), report);
}

function machine(name: string): string {
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  const dirty =
    execFileSync("git", ["status", "--porcelain"], { encoding: "utf8" }).trim() === "" ? "" : " with changes";
  const model = cpus()[0]?.model.trim() ?? "unknown processor";
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  return `Commit ${commit}${dirty}, ${cpus().length} cores of ${model}, ${memory}, Node ${process.version}. Made by \`npm run bench ${name}\`.`;
}
