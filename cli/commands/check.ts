// `driftmesh check`: looks at this machine and the mesh on it, and says what to do about what is wrong.
import { type Command, type Context, printListing } from "../terminal/door.ts";
import { type Check, checks } from "../local/door.ts";

export function describe(command: Command): void {
  command.addHelpText(
    "after",
    "\nExits with 1 when a check failed; warnings do not count.\n\nExample:\n  driftmesh check -o json",
  );
}

const SIGNS = { ok: ["green", "✔"], warning: ["yellow", "‼"], failed: ["red", "✖"] } as const;

export async function run(context: Context): Promise<number> {
  const people = context.format === "table" || context.format === "wide";
  const done: Check[] = [];
  for await (const check of checks(context)) {
    if (people) print(context, check, done.at(-1)?.area !== check.area);
    done.push(check);
  }
  const failed = done.filter(({ state }) => state === "failed");
  if (people) context.terminal.out(`\n${verdict(done)}\n`);
  else {
    const name = (check: Check): string => `check/${check.name}`;
    await printListing(context, { rows: done, columns: [], json: { checks: done }, name, empty: "" });
  }
  return failed.length === 0 ? 0 : 1;
}

function print({ terminal }: Context, { area, name, state, says, hint }: Check, first: boolean): void {
  if (first) terminal.out(`${area === "machine" ? "this machine" : "\nthe mesh"}\n`);
  const [style, sign] = SIGNS[state];
  const word = state === "ok" ? "" : `${state}: `;
  terminal.out(`${terminal.paint(style, sign)} ${name.padEnd(14)} ${word}${says}\n`);
  if (hint !== "") terminal.out(`  ${" ".repeat(14)} hint: ${hint}\n`);
}

function verdict(done: readonly Check[]): string {
  const count = (state: Check["state"]): number => done.filter((check) => check.state === state).length;
  return `${count("ok")} ok, ${count("warning")} warnings, ${count("failed")} failed`;
}
