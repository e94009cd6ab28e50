// Owns what the client knows of a flight at push-back: its eight features, its truth, and the two things the story injects.
// F1 The lateness features come only from flights that have landed by then; a truth is known at `landedMs`, not before.
// F2 History and live replay go through the same `pushBacks`, so they cannot disagree. The client watches every flight that
//    lands and asks the mesh about some: a flight's features are the same whatever the thinning.
// F3 `change` alters the world (truths, hence later lateness features); `fault` alters only what is sent, never what the client knows.
// F4 A truth that never comes is known to nobody: not to the mesh, not to the tracker, not to the history.
import { DAY0_MS, DAY_MS, type Flights } from "./dataset.ts";
import type { Column } from "./table.ts";

/** A flight counts as late from the 16th minute on. */
export const LATE_MINUTES = 15;

/** The features as the description lists them. */
export const FEATURES = [
  { name: "hour", type: "number" },
  { name: "weekday", type: "number" },
  { name: "distance", type: "number" },
  { name: "origin", type: "category" },
  { name: "destination", type: "category" },
  { name: "late_everywhere", type: "number" },
  { name: "late_at_origin", type: "number" },
  { name: "late_into_origin", type: "number" },
] as const;
export const LATENESS_FEATURES = ["late_everywhere", "late_at_origin", "late_into_origin"] as const;

/** One flight at push-back. `weekday` is 0 on Sunday; the lateness features are shares 0..1. */
export type Row = {
  hour: number;
  weekday: number;
  distance: number;
  origin: string;
  destination: string;
  late_everywhere: number;
  late_at_origin: number;
  late_into_origin: number;
};

/** What the client injects, as days since 1 January; `Infinity` is never. */
export type Story = { changeDay: number; faultDay: number };
export const NO_STORY: Story = { changeDay: Infinity, faultDay: Infinity };
export const CHANGE = { beforeHour: 11, minutesLater: 20 } as const;
/** A fault lasts from `faultDay` to `faultDay` + 7, both included. */
export const FAULT = { days: 8, factor: 100 } as const;

export const dayOf = (ms: number): number => Math.floor((ms - DAY0_MS) / DAY_MS);
export const hourOf = (ms: number): number => Math.floor((ms % DAY_MS) / 3_600_000);
/** 1 January 2001 was a Monday. */
const weekdayOf = (ms: number): number => (((dayOf(ms) + 1) % 7) + 7) % 7;

/** When the truth of a flight is known: half an hour on the ground and the way at 450 mph after `dateMs`. */
export const landedMs = (dateMs: number, distanceMiles: number): number =>
  dateMs + 30 * 60_000 + Math.round((distanceMiles / 450) * 3_600_000);

/** Is the flight late in the world of this story? */
export function isLate(flights: Flights, row: number, story: Story): boolean {
  return changedDelay(flights.delay[row] ?? 0, flights.dateMs[row] ?? 0, story) > LATE_MINUTES;
}

/** The change: from `changeDay` on, flights before 11:00 are 20 minutes later. */
export const changedDelay = (delay: number, dateMs: number, { changeDay }: Story): number =>
  dayOf(dateMs) >= changeDay && hourOf(dateMs) < CHANGE.beforeHour ? delay + CHANGE.minutesLater : delay;

/** The fault: during its days the lateness features are sent in percent. */
export function asSent(row: Row, dateMs: number, { faultDay }: Story): Row {
  const day = dayOf(dateMs);
  if (day < faultDay || day >= faultDay + FAULT.days) return row;
  const { late_everywhere, late_at_origin, late_into_origin } = row;
  return {
    ...row,
    late_everywhere: late_everywhere * FAULT.factor,
    late_at_origin: late_at_origin * FAULT.factor,
    late_into_origin: late_into_origin * FAULT.factor,
  };
}

/** Two flights in a hundred, chosen by the place of the row in the file, whose truth never comes (F4). */
export function truthIsLost(index: number): boolean {
  let hash = Math.imul(index ^ (index >>> 16), 0x45d9f3b);
  hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
  return ((hash ^ (hash >>> 16)) >>> 0) % 50 === 0;
}

/** Which flights the mesh is asked about: every `every`-th of the file, beginning with `offset`. */
export type Asked = { every: number; offset: number };
export type PushBack = { row: number; dateMs: number; features: Row };

/** Walks over *all* flights in time order and yields those asked about, with what is known of each at its own push-back (F1, F2). */
export function* pushBacks(flights: Flights, { every, offset }: Asked, story: Story): Generator<PushBack> {
  const tracker = new LatenessTracker();
  for (let row = 0; row < flights.rows; row++) {
    if ((flights.index[row] ?? 0) % every !== offset) watch(tracker, flights, row, story);
    else yield { row, dateMs: flights.dateMs[row] ?? 0, features: featuresAtPushBack(tracker, flights, row, story) };
  }
}

/** Features of one flight, whose truth the tracker then waits for; for callers that walk themselves, once per flight in time order. */
export function featuresAtPushBack(tracker: LatenessTracker, flights: Flights, row: number, story: Story): Row {
  const dateMs = flights.dateMs[row] ?? 0;
  const origin = flights.origin[row] ?? 0;
  tracker.advance(dateMs);
  const shares = tracker.shares(origin);
  watch(tracker, flights, row, story);
  return {
    hour: hourOf(dateMs),
    weekday: weekdayOf(dateMs),
    distance: flights.distance[row] ?? 0,
    origin: flights.airports[origin] ?? "",
    destination: flights.airports[flights.destination[row] ?? 0] ?? "",
    late_everywhere: shares.everywhere,
    late_at_origin: shares.atOrigin,
    late_into_origin: shares.intoOrigin,
  };
}

/** The flight has left; the tracker will know its truth when it lands, unless that never comes (F4). */
function watch(tracker: LatenessTracker, flights: Flights, row: number, story: Story): void {
  if (truthIsLost(flights.index[row] ?? 0)) return;
  tracker.departed({
    landedMs: landedMs(flights.dateMs[row] ?? 0, flights.distance[row] ?? 0),
    origin: flights.origin[row] ?? 0,
    destination: flights.destination[row] ?? 0,
    late: isLate(flights, row, story),
  });
}

type Departed = { landedMs: number; origin: number; destination: number; late: boolean };
export type Shares = { everywhere: number; atOrigin: number; intoOrigin: number };

/** Hours of event time after which a landed flight counts half; half, one, two and six were compared on days 0-27. */
const HALF_LIFE_HOURS = 1;
/** The share late before any flight has landed, and how many flights it weighs; at an airport the share everywhere takes its place. */
const PRIOR = { share: 0.2, flights: 5 } as const;

/**
 * Recent shares of late flights, forgetting exponentially in event time and shrunk towards the share everywhere, so
 * that an airport nobody has flown from for a day says "as everywhere" and never NaN.
 */
export class LatenessTracker {
  readonly #air: Departed[] = [];
  readonly #everywhere = new Fading(HALF_LIFE_HOURS);
  readonly #from = new Map<number, Fading>();
  readonly #into = new Map<number, Fading>();
  #nowMs = -Infinity;

  /** The flight has left; its truth counts from `landedMs` on. */
  departed(flight: Departed): void {
    pushHeap(this.#air, flight);
  }

  /** Takes in every flight landed by `nowMs`. Time only goes forward. */
  advance(nowMs: number): void {
    if (nowMs < this.#nowMs) throw new RangeError(`time goes back from ${this.#nowMs} to ${nowMs}`);
    this.#nowMs = nowMs;
    for (let next = this.#air[0]; next !== undefined && next.landedMs <= nowMs; next = this.#air[0]) {
      popHeap(this.#air);
      this.#everywhere.add(next.landedMs, next.late);
      fadingOf(this.#from, next.origin).add(next.landedMs, next.late);
      fadingOf(this.#into, next.destination).add(next.landedMs, next.late);
    }
  }

  /** The three lateness features of a flight that leaves `airport` now. */
  shares(airport: number): Shares {
    const everywhere = this.#everywhere.share(this.#nowMs, PRIOR.share, PRIOR.flights);
    return {
      everywhere,
      atOrigin: this.#from.get(airport)?.share(this.#nowMs, everywhere, PRIOR.flights) ?? everywhere,
      intoOrigin: this.#into.get(airport)?.share(this.#nowMs, everywhere, PRIOR.flights) ?? everywhere,
    };
  }
}

/** Two sums that fade with time: flights, and late ones among them. */
class Fading {
  readonly #perMs: number;
  #flights = 0;
  #late = 0;
  #atMs = 0;

  constructor(halfLifeHours: number) {
    this.#perMs = Math.LN2 / (halfLifeHours * 3_600_000);
  }

  add(atMs: number, late: boolean): void {
    const kept = Math.exp(-this.#perMs * (atMs - this.#atMs));
    this.#flights = this.#flights * kept + 1;
    this.#late = this.#late * kept + (late ? 1 : 0);
    this.#atMs = atMs;
  }

  share(nowMs: number, prior: number, priorFlights: number): number {
    const kept = Math.exp(-this.#perMs * (nowMs - this.#atMs));
    return (this.#late * kept + prior * priorFlights) / (this.#flights * kept + priorFlights);
  }
}

function fadingOf(map: Map<number, Fading>, airport: number): Fading {
  let fading = map.get(airport);
  if (fading === undefined) map.set(airport, (fading = new Fading(HALF_LIFE_HOURS)));
  return fading;
}

/** A binary heap by landing; ties fall by the order of arrival in the heap, which is deterministic. */
function pushHeap(heap: Departed[], item: Departed): void {
  let at = heap.push(item) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    const above = heap[parent];
    if (above === undefined || above.landedMs <= item.landedMs) break;
    heap[at] = above;
    at = parent;
  }
  heap[at] = item;
}

function popHeap(heap: Departed[]): void {
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    const left = heap[child];
    const right = heap[child + 1];
    if (left === undefined) break;
    if (right !== undefined && right.landedMs < left.landedMs) child++;
    const smaller = heap[child];
    if (smaller === undefined || smaller.landedMs >= last.landedMs) break;
    heap[at] = smaller;
    at = child;
  }
  heap[at] = last;
}

/** Rows as columns, in the order of `FEATURES`; numbers as the FP32 the model is sent. */
export function toColumns(rows: readonly Row[]): Column[] {
  return FEATURES.map(({ name, type }): Column => {
    switch (type) {
      case "number":
        return { name, type, values: Float32Array.from(rows, (row) => row[name]) };
      case "category":
        return { name, type, values: rows.map((row) => row[name]) };
    }
  });
}
