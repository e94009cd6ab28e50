// Starts a tool and says how it ended.
import { spawn } from "node:child_process";
import { delimiter, dirname, join } from "node:path";
import { ROOT } from "./sources.ts";

export type Ended = { name: string; code: number; output: string; seconds: number };

/** Runs a program with the repository's own binaries first on the path; collects its output. */
export function run(name: string, command: readonly string[]): Promise<Ended> {
  const started = performance.now();
  const path = [dirname(process.execPath), join(ROOT, "node_modules/.bin"), process.env["PATH"] ?? ""].join(delimiter);
  const child = spawn(command[0] ?? "", command.slice(1), { cwd: ROOT, env: { ...process.env, PATH: path } });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const { promise, resolve } = Promise.withResolvers<Ended>();
  const end = (code: number): void => resolve({ name, code, output, seconds: (performance.now() - started) / 1000 });
  child.on("error", (error) => {
    output += String(error);
    end(127);
  });
  child.on("close", (code) => end(code ?? 1));
  return promise;
}
