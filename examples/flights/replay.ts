// Owns the live replay: from the data and a story, what the client would send and when, in event time. Pure; somebody else calls the mesh.
// P1 Events come in order of event time. A truth never comes before the rows of its own flight.
// P2 Rows are asked with the features known at their own push-back, as sent (a fault included); truths are those of the changed world.
// P3 Two truths in a hundred never come (`truthIsLost`).
// P4 After the last rows the truths still on their way are yielded.
import { DAY0_MS, DAY_MS, type Flights } from "./dataset.ts";
import {
  asSent,
  isLate,
  landedMs,
  pushBacks,
  toColumns,
  truthIsLost,
  type Asked,
  type PushBack,
  type Story,
} from "./features.ts";
import type { Column } from "./table.ts";

export type ReplayEvent = RowsEvent | TruthsEvent;

/** Flights that left within one window: one request. `keys` (places in the file) name them until the mesh gives them ids. */
export type RowsEvent = {
  kind: "rows";
  /** End of the window, when the request is sent (event time, Unix ms). */
  atMs: number;
  keys: Uint32Array;
  /** Push-back of each row, not descending. */
  eventMs: Float64Array;
  /** The features in the order of `FEATURES`, as sent. */
  columns: readonly Column[];
};

/** Truths that became known within one window; all their rows were yielded before. */
export type TruthsEvent = {
  kind: "truths";
  atMs: number;
  keys: Uint32Array;
  /** When each truth was known (event time). */
  knownMs: Float64Array;
  /** 1 is late. */
  labels: Uint8Array;
};

export type ReplayOptions = {
  asked: Asked;
  story: Story;
  /** Days `fromDay` to `toDay` - 1 are asked about; the days before only warm the lateness features. */
  fromDay: number;
  toDay: number;
  /** Event time per request, at most 30 minutes: no flight lands sooner, so P1 holds. */
  windowMinutes: number;
};

/** Plays the flights given (all of them, from day 0 on) through a story. */
export function* replay(
  flights: Flights,
  { asked, story, fromDay, toDay, windowMinutes }: ReplayOptions,
): Generator<ReplayEvent> {
  if (!(windowMinutes > 0 && windowMinutes <= 30)) {
    throw new RangeError(`windowMinutes must be above 0 and at most 30, not ${windowMinutes}`);
  }
  const windowMs = windowMinutes * 60_000;
  const awaited = new Awaited();
  const playing: Playing = { flights, story, awaited };
  let window: PushBack[] = [];
  let endMs = DAY0_MS + fromDay * DAY_MS + windowMs;
  for (const pushBack of pushBacks(flights, asked, story)) {
    if (pushBack.dateMs < DAY0_MS + fromDay * DAY_MS) continue;
    if (pushBack.dateMs >= DAY0_MS + toDay * DAY_MS) break;
    while (pushBack.dateMs >= endMs) {
      yield* closed(playing, window, endMs);
      window = [];
      endMs += windowMs;
    }
    window.push(pushBack);
  }
  yield* closed(playing, window, endMs);
  while (awaited.size > 0) {
    endMs += windowMs;
    yield* closed(playing, [], endMs);
  }
}

type Playing = { flights: Flights; story: Story; awaited: Awaited };

/** What a window that ends at `endMs` gives: its rows, then the truths known by now. */
function* closed(
  { flights, story, awaited }: Playing,
  window: readonly PushBack[],
  endMs: number,
): Generator<ReplayEvent> {
  if (window.length > 0) {
    yield {
      kind: "rows",
      atMs: endMs,
      keys: Uint32Array.from(window, ({ row }) => flights.index[row] ?? 0),
      eventMs: Float64Array.from(window, ({ dateMs }) => dateMs),
      columns: toColumns(window.map(({ dateMs, features }) => asSent(features, dateMs, story))),
    };
  }
  for (const { row, dateMs } of window) {
    const key = flights.index[row] ?? 0;
    if (truthIsLost(key)) continue;
    awaited.add({
      key,
      knownMs: landedMs(dateMs, flights.distance[row] ?? 0),
      label: isLate(flights, row, story) ? 1 : 0,
    });
  }
  const known = awaited.knownBefore(endMs);
  if (known.length === 0) return;
  yield {
    kind: "truths",
    atMs: endMs,
    keys: Uint32Array.from(known, ({ key }) => key),
    knownMs: Float64Array.from(known, ({ knownMs }) => knownMs),
    labels: Uint8Array.from(known, ({ label }) => label),
  };
}

type Truth = { key: number; knownMs: number; label: number };

/** Truths on their way; a few hundred at a time, so a scan per window is cheap. */
class Awaited {
  #truths: Truth[] = [];

  get size(): number {
    return this.#truths.length;
  }

  add(truth: Truth): void {
    this.#truths.push(truth);
  }

  /** Takes out those known before `ms`, in the order in which they became known. */
  knownBefore(ms: number): Truth[] {
    const known = this.#truths.filter(({ knownMs }) => knownMs < ms);
    if (known.length > 0) this.#truths = this.#truths.filter(({ knownMs }) => knownMs >= ms);
    return known.sort((a, b) => a.knownMs - b.knownMs || a.key - b.key);
  }
}
