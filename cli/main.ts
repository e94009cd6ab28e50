// The command line. Owns the global options; imports only the command that is called.
import { dirname, resolve } from "node:path";
import { styleText } from "node:util";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { environment } from "#kernel/base/environment.ts";
import { systemClock } from "#kernel/base/clock.ts";
import { systemRand } from "#kernel/base/rand.ts";
import { COMMANDS } from "./commands.ts";
import { type Context, FORMATS, type Format, type Terminal } from "./terminal/context.ts";
import { printError, UsageError } from "./terminal/errors.ts";

const VERSION = "0.1.0";
const GLOBALS_WITH_VALUE = new Set(["--server", "-o", "--output", "--data"]);
const env = environment();
const terminal: Terminal = {
  out: (text) => void process.stdout.write(text),
  talk: (text) => void process.stderr.write(text),
  paint: (style, text) => (process.stderr.isTTY ? styleText(style, text, { stream: process.stderr }) : text),
  interactive: process.stdout.isTTY,
};
const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.once(signal, () => interrupted.abort(new DOMException("interrupted", "AbortError")));
process.stdout.on("error", () => process.exit(0)); // the reader has gone: `driftmesh get models | head -1`
process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  const called = COMMANDS.find((entry) => entry.name === firstWord(args));
  let exit = 0;
  const program = withGlobals(new Command("driftmesh"))
    .description("A model mesh: discover, serve, watch, retrain and retire machine-learning models.")
    .version(VERSION, "-v, --version", "print the version")
    .helpOption("-h, --help", "show this, or the help of a command")
    .addHelpText("after", "\nStart with `driftmesh dev`, or see the whole story with `driftmesh demo`.");
  for (const entry of COMMANDS) {
    const command = withGlobals(program.command(entry.name)).summary(entry.summary).description(entry.summary);
    if (entry !== called) continue;
    const module = await entry.load();
    module.describe(command);
    command.action(async () => {
      const context = contextOf(command.optsWithGlobals<Globals>());
      try {
        exit = (await module.run(context, command)) ?? 0;
      } catch (thrown) {
        exit = interrupted.signal.aborted ? 130 : await printError(context, thrown);
      }
    });
  }
  quietExits(program, forPrograms(args));
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    if (thrown.exitCode === 0 || thrown.code === "commander.help") return 0;
    if (!forPrograms(args)) return 2; // commander has said it
    const usage = new UsageError(thrown.message.replace(/^error: /, ""), "add --help for what it takes");
    return await printError({ format: "json", terminal, server: "" }, usage);
  }
  return exit;
}

/** The command's name: the first argument that is no option and no option's value; after `help`, the one it asks for. */
function firstWord(args: readonly string[]): string | undefined {
  return args.find((arg, i) => !arg.startsWith("-") && arg !== "help" && !GLOBALS_WITH_VALUE.has(args[i - 1] ?? ""));
}

type Globals = { server?: string; output?: Format; data?: string };

/** Global options are taken before and after the command's name. */
function withGlobals(command: Command): Command {
  return command
    .option("--server <host:port>", "address of the mesh (env DRIFTMESH_SERVER; default 127.0.0.1:4747)", address)
    .addOption(new Option("-o, --output <format>", "how to print").choices(FORMATS))
    .option("--data <folder>", "data folder of the mesh on this machine (default ./.driftmesh)");
}

function contextOf(globals: Globals): Context {
  const server = globals.server ?? env["DRIFTMESH_SERVER"] ?? "127.0.0.1:4747";
  return {
    env,
    clock: systemClock,
    rand: systemRand,
    signal: interrupted.signal,
    root: dirname(import.meta.dirname),
    cwd: process.cwd(),
    server,
    data: resolve(globals.data ?? ".driftmesh"),
    format: globals.output ?? "table",
    terminal,
    connect: async (service, at = server) => (await import("#kernel/rpc/connect.ts")).connectClient(service, at),
  };
}

function address(value: string): string {
  const plain = value.replace(/^http:\/\//, "").replace(/\/$/, "");
  if (!/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):\d{1,5}$/.test(plain))
    throw new InvalidArgumentError("It must be host:port, such as 127.0.0.1:4747.");
  return plain;
}

/** Is the output asked for in a form for programs? Read from the words, as it must hold when they cannot be parsed. */
function forPrograms(args: readonly string[]): boolean {
  return /(^| )(-o ?|--output[ =])(json|yaml)( |$)/.test(args.join(" "));
}

function quietExits(program: Command, silent: boolean): void {
  for (const command of [program, ...program.commands]) {
    if (silent) command.configureOutput({ writeErr: () => undefined });
    command.exitOverride().showHelpAfterError("(add --help for what it takes)").showSuggestionAfterError(true);
  }
}
