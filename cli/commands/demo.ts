// `driftmesh demo`: a mesh of its own, and the story of examples/flights played through it.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Command, type Context, wholeNumber } from "../terminal/door.ts";

type Options = {
  keep?: boolean;
  full?: boolean;
  every?: string;
  offset?: string;
  changeDay?: string;
  faultDay?: string;
  speed?: string;
  port: number;
  data?: string;
};

export function describe(command: Command): void {
  command
    .option("--keep", "leave the mesh running at the end and say where everything is")
    .option("--full", "replay every flight (slower)")
    .option("--every <n>", "replay every n-th flight (default 10)")
    .option("--offset <n>", "first flight of the thinning (default 0)")
    .option("--change-day <day>", "day from which morning flights are later (default 75)")
    .option("--fault-day <day>", "first day of the broken feed (default 60)")
    .option("--speed <factor>", "event time over wall time (default 54000)")
    .option("--port <n>", "port of the mesh (default 4747)", wholeNumber(1, 65535), 4747)
    .addHelpText("after", "\nExample:\n  driftmesh demo\n  driftmesh demo --every 20 --change-day 80 --keep");
}

export async function run(context: Context, command: Command): Promise<number> {
  const options = command.optsWithGlobals<Options>();
  const own = options.data === undefined;
  const data = own ? await mkdtemp(join(tmpdir(), "driftmesh-demo-")) : context.data;
  const server = `127.0.0.1:${options.port}`;
  const cli = [process.execPath, join(context.root, "cli/main.ts")];
  const started = await ended(context, [
    ...cli,
    "dev",
    "--detach",
    "--port",
    String(options.port),
    "--data",
    data,
    "--node",
    "local:cpu=4,memory=4Gi",
    "--node",
    "clinic:cpu=1,memory=1Gi",
  ]);
  if (started !== 0) return started;
  try {
    const knobs = (["every", "offset", "changeDay", "faultDay", "speed"] as const).flatMap((name) => {
      const value = options[name];
      return value === undefined ? [] : [`--${name.replace(/[A-Z]/, (c) => `-${c.toLowerCase()}`)}`, value];
    });
    const story = join(context.root, "examples/flights/story/main.ts");
    const full = options.full === true ? ["--full"] : [];
    return await ended(context, [
      process.execPath,
      story,
      "--server",
      server,
      "--data",
      data,
      "--driftmesh",
      cli.join(" "),
      ...knobs,
      ...full,
    ]);
  } finally {
    if (options.keep === true)
      context.terminal.out(
        `\nThe mesh goes on: API ${server}, metrics http://${server}/metrics, data ${data}\nEnd it with: driftmesh stop --data ${data}\n`,
      );
    else {
      await ended(context, [...cli, "stop", "--data", data]);
      if (own) await rm(data, { recursive: true, force: true });
    }
  }
}

/** Runs a program with our terminal to its end; its exit code. */
function ended(context: Context, command: readonly string[]): Promise<number> {
  const child = spawn(command[0] ?? "", command.slice(1), { stdio: "inherit", env: context.env });
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.on("error", reject);
  child.on("close", (code) => resolve(code ?? 1));
  return promise;
}
