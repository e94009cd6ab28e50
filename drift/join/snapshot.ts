// Owns the ledger as bytes: what is saved, and what a restart goes on from.
// H1 Decoding what was encoded gives a state that behaves the same. H2 Days in `without` are left out: their segment is saved with it.
import type { OutcomePane } from "#kernel/domain/pane.ts";
import type { TrackFact } from "#kernel/domain/state.ts";
import type { BootJoin } from "./boots.ts";
import type { Cellular, JoinRow } from "./intake.ts";
import { openJoin, type EarlyLabel, type JoinState } from "./track.ts";

/** NaN travels as null. */
type PackedRow = [
  boot: number,
  number: number,
  eventMs: number,
  version: number,
  score: number | null,
  other: number,
  otherScore: number | null,
  label: number | null,
  corrected: number,
  values: (Cellular | null)[],
];
type Packed = {
  format: 1;
  track: number;
  strict: boolean;
  fact: TrackFact | null;
  boots: BootJoin[];
  rows: PackedRow[];
  days: [number, PackedRow[]][];
  early: EarlyLabel[];
  outbox: OutcomePane[];
  numbers: Pick<
    JoinState,
    "watermarkMs" | "storedMs" | "passed" | "closedUntilMs" | "toldUntilMs" | "late" | "unmatched" | "lost"
  >;
};

export function encodeJoin(state: JoinState, without: ReadonlySet<number>): Uint8Array {
  const {
    track,
    strict,
    fact,
    outbox,
    watermarkMs,
    storedMs,
    passed,
    closedUntilMs,
    toldUntilMs,
    late,
    unmatched,
    lost,
  } = state;
  const packed: Packed = {
    format: 1,
    track,
    strict,
    fact,
    outbox,
    boots: [...state.boots.values()],
    rows: [...state.blocks.values()].flatMap((rows) => rows.map(pack)),
    days: [...state.days].flatMap(([dayMs, rows]): Packed["days"] =>
      without.has(dayMs) ? [] : [[dayMs, rows.map(pack)]],
    ),
    early: [...state.early.values()],
    numbers: {
      watermarkMs,
      storedMs,
      passed,
      closedUntilMs,
      toldUntilMs,
      late,
      unmatched,
      lost,
    },
  };
  return new TextEncoder().encode(JSON.stringify(packed));
}

export function decodeJoin(bytes: Uint8Array): JoinState {
  const packed = JSON.parse(new TextDecoder().decode(bytes)) as Packed;
  const state: JoinState = {
    ...openJoin(packed.track, packed.strict),
    ...packed.numbers,
    fact: packed.fact,
    boots: new Map(packed.boots.map((boot) => [boot.boot, boot])),
    days: new Map(packed.days.map(([dayMs, rows]) => [dayMs, rows.map(unpack)])),
    early: new Map(packed.early.map((label) => [`${label.boot}/${label.number}`, label])),
    outbox: packed.outbox,
  };
  for (const row of packed.rows.map(unpack)) {
    const startMs = Math.floor(row.eventMs / state.blockMs) * state.blockMs;
    const block = state.blocks.get(startMs);
    if (block === undefined) state.blocks.set(startMs, [row]);
    else block.push(row);
    const ofBoot = state.rows.get(row.boot);
    if (ofBoot === undefined) state.rows.set(row.boot, new Map([[row.number, row]]));
    else ofBoot.set(row.number, row);
  }
  return state;
}

const pack = (r: JoinRow): PackedRow => [
  ...([r.boot, r.number, r.eventMs, r.version, orNull(r.score), r.other, orNull(r.otherScore)] as const),
  ...([orNull(r.label), r.corrected, r.values.map((v) => (typeof v === "number" ? orNull(v) : v))] as const),
];

const unpack = ([
  boot,
  number,
  eventMs,
  version,
  score,
  other,
  otherScore,
  label,
  corrected,
  values,
]: PackedRow): JoinRow => ({
  boot,
  number,
  eventMs,
  version,
  other,
  corrected,
  score: score ?? Number.NaN,
  otherScore: otherScore ?? Number.NaN,
  label: label ?? Number.NaN,
  values: values.map((v) => v ?? Number.NaN),
});

const orNull = (value: number): number | null => (Number.isNaN(value) ? null : value);
