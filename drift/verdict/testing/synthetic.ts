// Owns a small artificial track for tests: a profile, daily rows with between-day spread, panes and outcome panes from a seed.
import { present } from "#kernel/base/assert.ts";
import { seededRand, type Rand } from "#kernel/base/rand.ts";
import type { OutcomePane, Pane } from "#kernel/domain/pane.ts";
import { countOutcome, lossMicro, profileFrom } from "#kernel/domain/profile-build.ts";
import {
  categoryBinner,
  cellsOf,
  DAY_MS,
  emptyOutcome,
  HOUR_MS,
  numericBin,
  type Profile,
} from "#kernel/domain/profile.ts";
import type { TrackFact } from "#kernel/domain/state.ts";
import { fold, openFold, type Decision, type TrackFold, type TrackInput } from "../door.ts";

export const DAY0 = Date.UTC(2024, 0, 1);
export const TRACK = 5;
export const SHA = "profile-1";

export type Row = { eventMs: number; size: number; kind: string; score: number; label: number };
/** How a day differs from the reference. */
export type Twist = {
  sizeTimes?: number;
  sizePlus?: number;
  missing?: number;
  kind?: string;
  concept?: boolean;
  rows?: number;
};

/** Rows of one day: `size` is exponential with a mean that moves by day, `score` grows with it, labels follow the score. */
export function dayRows(rand: Rand, day: number, twist: Twist = {}): Row[] {
  const mean = 10 * (1 + 0.1 * (rand.next() - 0.5));
  const lift = 0.06 * (rand.next() - 0.5);
  return Array.from({ length: twist.rows ?? 400 }, (_, i): Row => {
    const size = -Math.log(1 - rand.next()) * mean;
    const score = Math.min(0.95, Math.max(0.05, 0.1 + size / 40));
    const truth = twist.concept === true ? 1 - score : score;
    const sent =
      rand.next() < (twist.missing ?? 0) ? Number.NaN : size * (twist.sizeTimes ?? 1) + (twist.sizePlus ?? 0);
    const kind = twist.kind ?? ["red", "green", "blue"][rand.below(3)] ?? "";
    const eventMs = DAY0 + day * DAY_MS + Math.floor((i * DAY_MS) / (twist.rows ?? 400));
    return { eventMs, size: sent, kind, score, label: rand.next() < truth + lift ? 1 : 0 };
  });
}

function profileOf(rows: readonly Row[]): Profile {
  return profileFrom({
    columns: [
      { name: "size", kind: "number", values: rows.map((r) => r.size) },
      { name: "kind", kind: "category", values: rows.map((r) => r.kind) },
    ],
    labels: rows.map((r) => r.label),
    scores: rows.map((r) => r.score),
    eventMs: rows.map((r) => r.eventMs),
    scoreKind: "probability",
  });
}

/** Panes of `boot` for these rows in order, `size` rows each; the last one promises `untilMs`. */
export function panesOf(
  profile: Profile,
  rows: readonly Row[],
  at: { boot: number; version: number; size: number; untilMs: number; number?: number },
): Pane[] {
  const [size, kind] = [present(profile.features[0], "size"), present(profile.features[1], "kind")];
  const panes: Pane[] = [];
  const kindBin = categoryBinner(kind.kind === "category" ? kind.categories : []);
  for (let from = 0; from < rows.length; from += at.size) {
    const part = rows.slice(from, from + at.size);
    const cells = new Map<number, Pane["cells"][number]>();
    for (const row of part) {
      const startMs = Math.floor(row.eventMs / HOUR_MS) * HOUR_MS;
      const cell = cells.get(startMs) ?? {
        startMs,
        version: at.version,
        rows: 0,
        features: profile.features.map((f) => new Array<number>(cellsOf(f)).fill(0)),
        score: new Array<number>(profile.score.edges.length + 2).fill(0),
      };
      cells.set(startMs, cell);
      cell.rows++;
      increment(cell.features[0], numericBin(size.kind === "number" ? size.edges : [], row.size));
      increment(cell.features[1], kindBin(row.kind));
      increment(cell.score, numericBin(profile.score.edges, row.score));
    }
    panes.push({
      track: TRACK,
      boot: at.boot,
      number: (at.number ?? 1) + panes.length,
      firstRow: from + 1,
      rows: part.length,
      dropped: 0,
      suppressed: 0,
      watermarkMs: rows[from + at.size]?.eventMs ?? at.untilMs,
      cells: [...cells.values()],
    });
  }
  return panes;
}

const increment = (cells: number[] | undefined, bin: number): void => {
  if (cells !== undefined) cells[bin] = (cells[bin] ?? 0) + 1;
};

export type Pairing = { version: number; other: number; otherScore: (row: Row) => number };

/** The 24 outcome panes of a day. */
export function outcomesOf(
  profile: Profile,
  rows: readonly Row[],
  day: number,
  version: number,
  pairing?: Pairing,
): OutcomePane[] {
  return Array.from({ length: 24 }, (_, hour): OutcomePane => {
    const startMs = DAY0 + day * DAY_MS + hour * HOUR_MS;
    const mine = rows.filter((r) => r.eventMs >= startMs && r.eventMs < startMs + HOUR_MS);
    const outcome = emptyOutcome();
    const pair = {
      version: pairing?.version ?? 0,
      other: pairing?.other ?? 0,
      n: 0,
      differenceMicro: 0,
      squareMicro: 0,
    };
    for (const row of mine) {
      countOutcome(outcome, profile, row.score, row.label);
      if (pairing === undefined) continue;
      const difference =
        lossMicro(profile, row.score, row.label) - lossMicro(profile, pairing.otherScore(row), row.label);
      pair.n++;
      pair.differenceMicro += difference;
      pair.squareMicro += Math.round(difference ** 2 / 1e6);
    }
    return {
      track: TRACK,
      startMs,
      versions: mine.length === 0 ? [] : [{ version, outcome, unlabelled: 0 }],
      pairs: pairing === undefined ? [] : [pair],
      corrected: 0,
      late: 0,
      unmatched: 0,
      watermarkMs: startMs + HOUR_MS,
    };
  });
}

export function factOf(over: Partial<TrackFact> = {}): TrackFact {
  return {
    kind: "track",
    track: TRACK,
    revision: 1,
    model: "sizes",
    scope: "open",
    champion: 1,
    profileSha256: SHA,
    policy: { tolerance: 0.002, scale: 0.015, labelHorizonHours: 24, shadowDays: 10, probationDays: 3 },
    rollout: null,
    ended: null,
    ...over,
  };
}

/** A track of one boot with its profile of 28 days, fed day by day. */
export class Track {
  readonly rand: Rand;
  readonly profile: Profile;
  readonly decisions: Decision[] = [];
  readonly inputs: TrackInput[] = [];
  state: TrackFold = openFold(TRACK);
  day = 28;
  #number = 1;
  #seq = 0;

  constructor(seed: number, profile?: Profile) {
    this.rand = seededRand(seed);
    const rows = Array.from({ length: 28 }, (_, day) => dayRows(this.rand, day)).flat();
    this.profile = profile ?? profileOf(rows);
    this.give({ kind: "fact", fact: factOf() });
  }

  give(input: TrackInput): void {
    this.inputs.push(input);
    this.decisions.push(...fold(this.state, input, ++this.#seq, () => this.profile));
  }

  /** One day's panes and, unless told otherwise, its outcomes; by version `version` of boot `version`. */
  live(twist: Twist = {}, options: { pairing?: Pairing; labels?: boolean; version?: number } = {}): void {
    const rows = dayRows(this.rand, this.day, twist);
    const version = options.version ?? 1;
    const untilMs = DAY0 + (this.day + 1) * DAY_MS;
    const panes = panesOf(this.profile, rows, { boot: version, version, size: 150, untilMs, number: this.#number });
    this.#number += panes.length;
    for (const pane of panes) this.give({ kind: "pane", pane });
    const outcomes = options.labels === false ? [] : outcomesOf(this.profile, rows, this.day, version, options.pairing);
    for (const outcome of outcomes) this.give({ kind: "outcome", outcome });
    this.day++;
  }

  episodes() {
    return this.decisions.flatMap((d) => (d.kind === "episode" ? [d.episode] : []));
  }
  verdicts() {
    return this.decisions.flatMap((d) => (d.kind === "verdict" ? [d.verdict] : []));
  }
  evidence() {
    return this.decisions.flatMap((d) => (d.kind === "evidence" ? [d.evidence] : []));
  }
}
