// When a row happened: the server's clock, or what the client says where the deployment lets it.
// E1 `highestMs` is the highest accepted event time; it never goes back.
// E2 A row more than 26 h ahead of it is skew: it is recorded at the highest time and moves nothing, unless for a whole minute
//    every row was ahead; then the world has moved, and they are accepted.
// E3 Where clients state times, a row without one counts as one at the server's clock under E2, even when it is the first:
//    a call by hand must not set the clock of a replay.
import { HOUR_MS } from "#kernel/domain/profile.ts";

const AHEAD_MS = 26 * HOUR_MS;
const MINUTE_MS = 60_000;
const EARLIEST_MS = Date.UTC(1970, 0, 2);
const LATEST_MS = Date.UTC(2200, 0, 1);

export class EventTime {
  highestMs = 0;
  skewed = 0;
  readonly #clientStates: boolean;
  #allAheadSinceMs: number | undefined;

  constructor(clientStates: boolean) {
    this.#clientStates = clientStates;
  }

  /** Event time of one row (E1-E3). `stated` is the client's, `nowMs` the wall clock. */
  accept(stated: number | undefined, nowMs: number): number {
    if (!this.#clientStates) return (this.highestMs = Math.max(this.highestMs, nowMs));
    const time = stated ?? nowMs;
    const trusted = this.highestMs > 0 ? time <= this.highestMs + AHEAD_MS : stated !== undefined;
    if (trusted) {
      this.#allAheadSinceMs = undefined;
      this.highestMs = Math.max(this.highestMs, time);
      return time;
    }
    this.#allAheadSinceMs ??= nowMs;
    if (nowMs - this.#allAheadSinceMs >= MINUTE_MS) {
      this.#allAheadSinceMs = undefined;
      return (this.highestMs = time);
    }
    this.skewed += 1;
    return this.highestMs > 0 ? this.highestMs : time;
  }
}

type Parameter = { parameterChoice: { case: string | undefined; value?: unknown } } | undefined;
export type StatedTimes =
  | { kind: "none" }
  | { kind: "times"; of: (row: number) => number }
  | { kind: "wrong"; expected: string };

/** Reads `driftmesh_event_time`: Unix ms for all rows, or a text with one per row, separated by commas. */
export function statedTimes(parameter: Parameter, rows: number): StatedTimes {
  const choice = parameter?.parameterChoice;
  if (choice?.case === undefined) return { kind: "none" };
  const expected = `Unix ms as int64_param, or ${rows} of them separated by commas as string_param`;
  const numbers = String(choice.value).split(",").map(Number);
  const fits =
    choice.case === "int64Param" || choice.case === "uint64Param"
      ? numbers.length === 1
      : choice.case === "stringParam";
  if (!fits || (numbers.length !== 1 && numbers.length !== rows)) return { kind: "wrong", expected };
  if (!numbers.every((ms) => Number.isInteger(ms) && ms >= EARLIEST_MS && ms < LATEST_MS))
    return { kind: "wrong", expected };
  const first = numbers[0] ?? 0;
  return { kind: "times", of: numbers.length === 1 ? () => first : (row) => numbers[row] ?? first };
}
