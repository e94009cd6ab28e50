// The shape of a command: a module that describes itself to commander and runs. Modules are imported only when called.
import { type Command, InvalidArgumentError } from "commander";
import type { Context } from "./context.ts";

export type { Command };

/** What `cli/commands/x.ts` exports. */
export type CommandModule = {
  /** Adds arguments, options and an example to `command`. */
  describe(command: Command): void;
  /** Does it. `command.args` and `command.opts<Options>()` hold what was given; the number is the exit code (default 0). */
  run(context: Context, command: Command): Promise<number | void>;
};

/** For options given several times: `.option("--node <spec>", "...", repeatable, [])`. */
export function repeatable(value: string, sofar: readonly string[]): string[] {
  return [...sofar, value];
}

/** For options that are whole numbers within bounds: `.option("--port <n>", "...", wholeNumber(1, 65535))`. */
export function wholeNumber(least: number, most: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (/^-?\d+$/.test(value) && number >= least && number <= most) return number;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}
