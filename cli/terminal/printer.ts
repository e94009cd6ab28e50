// Tables, JSON, YAML and names on stdout.
// O1 JSON and YAML are exactly the value given: proto3 JSON of the API's message. O2 A table has no borders: it is for grep and awk too.
import type { Context } from "./context.ts";

/** One column: its head, and what it says of a row. `wide` ones appear with -o wide only. */
export type Column<T> = { head: string; of: (row: T) => string; wide?: boolean; right?: boolean };

/** Rows to print, with every form they can take. */
export type Listing<T> = {
  rows: readonly T[];
  columns: readonly Column<T>[];
  /** What -o json and yaml print: proto3 JSON of the whole answer. */
  json: unknown;
  /** What -o name prints of a row, such as `model/churn`. */
  name: (row: T) => string;
  /** Said on stderr when there is no row: what to do next. */
  empty: string;
};

/** Prints a list in the context's format. */
export async function printListing<T>(context: Context, listing: Listing<T>): Promise<void> {
  const { terminal, format } = context;
  if (format === "json" || format === "yaml") return await printValue(context, listing.json);
  if (format === "name") return terminal.out(listing.rows.map((row) => `${listing.name(row)}\n`).join(""));
  if (listing.rows.length === 0) return terminal.talk(`${listing.empty}\n`);
  terminal.out(tableText(listing, format === "wide"));
}

/** Prints one thing: `text` for people (table, wide), `json` for programs, `name` alone with -o name. */
export async function printObject(
  context: Context,
  object: { text: string; json: unknown; name: string },
): Promise<void> {
  const { terminal, format } = context;
  if (format === "json" || format === "yaml") return await printValue(context, object.json);
  terminal.out(ended(format === "name" ? object.name : object.text));
}

async function printValue(context: Context, value: unknown): Promise<void> {
  if (context.format === "json") return context.terminal.out(`${JSON.stringify(value)}\n`);
  const { stringify } = await import("yaml");
  context.terminal.out(stringify(value));
}

/** The table as text: columns two spaces apart, each as wide as its widest cell. */
export function tableText<T>(listing: Pick<Listing<T>, "rows" | "columns">, wide: boolean): string {
  const columns = listing.columns.filter((column) => wide || column.wide !== true);
  const lines = [columns.map((c) => c.head), ...listing.rows.map((row) => columns.map((c) => clean(c.of(row))))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => widthOf(line[i] ?? ""))));
  const text = lines.map((line) =>
    line
      .map((cell, i) => {
        const pad = " ".repeat((widths[i] ?? 0) - widthOf(cell));
        return columns[i]?.right === true ? pad + cell : cell + pad;
      })
      .join("  ")
      .trimEnd(),
  );
  return `${text.join("\n")}\n`;
}

/** Characters, not UTF-16 units: a name may hold an emoji. */
const widthOf = (cell: string): number => Array.from(cell).length;
/** Control characters never reach the terminal: a name must not be able to move the cursor. */
const clean = (cell: string): string => cell.replace(/\p{Cc}/gu, "?");
const ended = (text: string): string => (text.endsWith("\n") ? text : `${text}\n`);

/** `3m`, `2h`, `5d`: how long ago, in the largest unit that is not zero. */
export function age(nowMs: number, thenMs: number): string {
  return thenMs <= 0 ? "-" : duration(Math.max(0, nowMs - thenMs));
}

/** `350ms`, `12s`, `3m`, `2h`, `5d`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const units: readonly (readonly [string, number])[] = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["m", 60_000],
    ["s", 1000],
  ];
  const [unit, size] = units.find(([, length]) => ms >= length) ?? ["s", 1000];
  return `${Math.floor(ms / size)}${unit}`;
}

/** `512 MiB`, `3.4 GiB`. */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** power;
  return `${value >= 10 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} ${units[power] ?? "B"}`;
}
