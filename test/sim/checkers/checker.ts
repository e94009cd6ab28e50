// What a checker is. A checker reads a trace and nothing else, so a recorded trace with one thing flipped shows that it bites.
import type { Change, Stamped, TraceEvent } from "../trace.ts";

/** Reads events in order and says what is broken, one sentence each. */
export type Check = (event: TraceEvent, atMs: number) => string[];
export type Checker = { name: string; promises: string; begin: () => Check };

/** One key's change and who made it. */
export type KeyChange = Change & { by: string; bucket: "state" | "drift" };

/** A checker of committed keys only; `batch` sees all changes of one atomic write. */
export function onWrites(batch: (changes: readonly KeyChange[]) => string[]): Check {
  return (event) =>
    event.kind === "write"
      ? batch(event.changes.map((change) => ({ ...change, by: event.by, bucket: event.bucket })))
      : [];
}

export type Broken = { checker: string; atMs: number; says: string };

/** Runs checkers over events as they come. */
export function watchWith(checkers: readonly Checker[]): { see: (stamped: Stamped) => Broken[]; broken: Broken[] } {
  const running = checkers.map(({ name, begin }) => ({ name, check: begin() }));
  const broken: Broken[] = [];
  const see = ({ atMs, event }: Stamped): Broken[] => {
    const found = running.flatMap(({ name, check }) =>
      check(event, atMs).map((says): Broken => ({ checker: name, atMs, says })),
    );
    broken.push(...found);
    return found;
  };
  return { see, broken };
}
