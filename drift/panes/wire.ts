// Owns the wire forms of what MESH_PANE carries: Pane (sparse counts), OutcomePane and Fact (canonical JSON), both ways.
// W1 Encoding then decoding gives an equal value. W2 What does not decode, or contradicts itself, is undefined: the reader counts it and goes on.
// W3 Numbers are whole and below 2^53, so that sums stay exact.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { denseCounts, sparseCounts } from "#kernel/domain/counts.ts";
import type { OutcomePane, Pane, PaneCell } from "#kernel/domain/pane.ts";
import type { Fact } from "#kernel/domain/state.ts";
import {
  FactEnvelopeSchema,
  OutcomePaneSchema,
  PaneSchema,
  type OutcomePane as WireOutcomePane,
  type Pane as WirePane,
  type PaneCell as WireCell,
} from "#proto/driftmesh/internal/v1/telemetry_pb.ts";

/** The bytes of a pane. */
export function encodePane(pane: Pane): Uint8Array {
  const message = create(PaneSchema, {
    track: pane.track,
    boot: pane.boot,
    number: BigInt(pane.number),
    firstRow: BigInt(pane.firstRow),
    rows: BigInt(pane.rows),
    dropped: BigInt(pane.dropped),
    suppressed: BigInt(pane.suppressed),
    watermarkMs: BigInt(pane.watermarkMs),
    cells: pane.cells.map((cell) => ({
      startMs: BigInt(cell.startMs),
      version: cell.version,
      rows: BigInt(cell.rows),
      features: cell.features.map(sparseCounts),
      score: sparseCounts(cell.score),
    })),
  });
  return toBinary(PaneSchema, message);
}

/** The pane in `payload`, or undefined (W2). */
export function decodePane(payload: Uint8Array): Pane | undefined {
  const wire = decoded<WirePane>(() => fromBinary(PaneSchema, payload));
  if (wire === undefined) return undefined;
  const cells: PaneCell[] = [];
  for (const cell of wire.cells) {
    const domain = cellOf(cell);
    if (domain === undefined) return undefined;
    cells.push(domain);
  }
  const pane: Pane = {
    track: wire.track,
    boot: wire.boot,
    number: Number(wire.number),
    firstRow: Number(wire.firstRow),
    rows: Number(wire.rows),
    dropped: Number(wire.dropped),
    suppressed: Number(wire.suppressed),
    watermarkMs: Number(wire.watermarkMs),
    cells,
  };
  const { number, firstRow, rows, dropped, suppressed, watermarkMs } = pane;
  return safe(number, firstRow, rows, dropped, suppressed, watermarkMs) && number >= 1 ? pane : undefined;
}

function cellOf(wire: WireCell): PaneCell | undefined {
  const score = wire.score === undefined ? undefined : denseCounts(wire.score);
  if (score === undefined) return undefined;
  const features: number[][] = [];
  for (const counts of wire.features) {
    const dense = denseCounts(counts);
    if (dense === undefined) return undefined;
    features.push(dense);
  }
  const [startMs, rows] = [Number(wire.startMs), Number(wire.rows)];
  if (!safe(startMs, rows, ...score) || !features.every((counts) => safe(...counts))) return undefined;
  return { startMs, version: wire.version, rows, features, score };
}

/** The bytes of an outcome pane. */
export function encodeOutcome(pane: OutcomePane): Uint8Array {
  const message = create(OutcomePaneSchema, {
    track: pane.track,
    startMs: BigInt(pane.startMs),
    versions: pane.versions.map(({ version, outcome, unlabelled }) => ({
      version,
      n: outcome.n.map(BigInt),
      yMicro: outcome.yMicro.map(BigInt),
      yyMicro: outcome.yyMicro.map(BigInt),
      lossMicro: BigInt(outcome.lossMicro),
      unlabelled: BigInt(unlabelled),
    })),
    pairs: pane.pairs.map(({ version, other, n, differenceMicro, squareMicro }) => ({
      version,
      other,
      n: BigInt(n),
      differenceMicro: BigInt(differenceMicro),
      squareMicro: BigInt(squareMicro),
    })),
    corrected: BigInt(pane.corrected),
    late: BigInt(pane.late),
    unmatched: BigInt(pane.unmatched),
    watermarkMs: BigInt(pane.watermarkMs),
  });
  return toBinary(OutcomePaneSchema, message);
}

/** The outcome pane in `payload`, or undefined (W2). */
export function decodeOutcome(payload: Uint8Array): OutcomePane | undefined {
  const wire = decoded<WireOutcomePane>(() => fromBinary(OutcomePaneSchema, payload));
  if (wire === undefined) return undefined;
  const pane: OutcomePane = {
    track: wire.track,
    startMs: Number(wire.startMs),
    versions: wire.versions.map((v) => ({
      version: v.version,
      outcome: {
        n: v.n.map(Number),
        yMicro: v.yMicro.map(Number),
        yyMicro: v.yyMicro.map(Number),
        lossMicro: Number(v.lossMicro),
      },
      unlabelled: Number(v.unlabelled),
    })),
    pairs: wire.pairs.map((p) => ({
      version: p.version,
      other: p.other,
      n: Number(p.n),
      differenceMicro: Number(p.differenceMicro),
      squareMicro: Number(p.squareMicro),
    })),
    corrected: Number(wire.corrected),
    late: Number(wire.late),
    unmatched: Number(wire.unmatched),
    watermarkMs: Number(wire.watermarkMs),
  };
  return consistent(pane) ? pane : undefined;
}

function consistent({ versions, pairs, startMs, watermarkMs, corrected, late, unmatched }: OutcomePane): boolean {
  return (
    safe(startMs, watermarkMs, corrected, late, unmatched) &&
    versions.every(({ outcome: { n, yMicro, yyMicro, lossMicro }, unlabelled }) => {
      const sameLength = n.length === yMicro.length && n.length === yyMicro.length;
      return sameLength && safe(...n, ...yMicro, ...yyMicro, lossMicro, unlabelled);
    }) &&
    pairs.every(({ n, differenceMicro, squareMicro }) => safe(n, differenceMicro, squareMicro))
  );
}

/** The bytes of a fact. */
export function encodeFact(fact: Fact): Uint8Array {
  return toBinary(FactEnvelopeSchema, create(FactEnvelopeSchema, { json: canonicalJson(fact) }));
}

/** The fact in `payload`, or undefined: unknown kinds are facts of a newer release, and nobody here depends on them. */
export function decodeFact(payload: Uint8Array): Fact | undefined {
  const value = decoded<unknown>(() => JSON.parse(fromBinary(FactEnvelopeSchema, payload).json));
  return isFact(value) ? value : undefined;
}

function isFact(value: unknown): value is Fact {
  if (typeof value !== "object" || value === null) return false;
  const fact = value as Partial<Record<string, unknown>>;
  if (typeof fact["track"] !== "number") return false;
  if (fact["kind"] === "boot-ended") return typeof fact["boot"] === "number";
  const policy: unknown = fact["policy"];
  return (
    fact["kind"] === "track" &&
    typeof fact["revision"] === "number" &&
    typeof fact["model"] === "string" &&
    typeof fact["scope"] === "string" &&
    typeof fact["champion"] === "number" &&
    typeof fact["profileSha256"] === "string" &&
    typeof policy === "object" &&
    policy !== null &&
    typeof (policy as Partial<Record<string, unknown>>)["labelHorizonHours"] === "number"
  );
}

function decoded<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

const safe = (...numbers: number[]): boolean => numbers.every((n) => Number.isSafeInteger(n));
