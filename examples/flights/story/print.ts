// What a person sees: chapters with durations, lines, tables; and the assertions that end the story.

export type Printer = {
  chapter(title: string): void;
  line(text: string): void;
  table(head: readonly string[], rows: readonly (readonly string[])[]): void;
  /** Prints what holds; ends the story when it does not. */
  holds(condition: boolean, claim: string): void;
  /** Failed claims so far. */
  failures(): readonly string[];
};

/** Prints to standard output; times come from `nowMs`. */
export function createPrinter(nowMs: () => number): Printer {
  const startMs = nowMs();
  let chapters = 0;
  const failed: string[] = [];
  const seconds = (): string => `${((nowMs() - startMs) / 1000).toFixed(1)} s`.padStart(8);
  const write = (text: string): void => void process.stdout.write(`${text}\n`);
  return {
    chapter: (title) => write(`\n[${seconds()}] ${++chapters}. ${title}`),
    line: (text) => write(`[${seconds()}]    ${text}`),
    table: (head, rows) => {
      const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => (row[i] ?? "").length)));
      for (const row of [head, ...rows])
        write(
          `              ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  ")}`,
        );
    },
    holds: (condition, claim) => {
      write(`[${seconds()}]    ${condition ? "holds" : "FAILS"}: ${claim}`);
      if (!condition) failed.push(claim);
    },
    failures: () => failed,
  };
}
