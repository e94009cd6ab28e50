// Owns what is said of a closed block: labelled rows by score bin, unlabelled ones, and paired losses of rows both arms scored.
// O1 Sums of integers: the order of rows does not matter. O2 Rows without a score (failed calls) are not counted.
// O3 In strict mode nothing leaves that rests on fewer than STRICT_ROWS labelled rows.
import { emptyOutcome } from "#kernel/domain/profile.ts";
import { countOutcome, lossMicro, type ProfileBins } from "#kernel/domain/profile-build.ts";
import type { OutcomePane, PairCounts } from "#kernel/domain/pane.ts";
import type { JoinRow } from "./intake.ts";

export const STRICT_ROWS = 100;
const MICRO = 1_000_000;

type Where = { track: number; startMs: number; watermarkMs: number; strict: boolean };

/** The pane of a block's rows; `late` and `unmatched` are the ledger's to fill in. */
export function outcomePane(where: Where, rows: readonly JoinRow[], bins: ProfileBins): OutcomePane {
  const versions = new Map<number, OutcomePane["versions"][number]>();
  const pairs = new Map<string, PairCounts>();
  let corrected = 0;
  for (const row of rows) {
    corrected += row.corrected;
    if (Number.isNaN(row.score)) continue;
    let mine = versions.get(row.version);
    if (mine === undefined) {
      versions.set(row.version, (mine = { version: row.version, outcome: emptyOutcome(), unlabelled: 0 }));
    }
    if (Number.isNaN(row.label)) {
      mine.unlabelled += 1;
      continue;
    }
    countOutcome(mine.outcome, bins, row.score, row.label);
    if (row.other !== 0) countPair(pairs, row, bins);
  }
  const enough = (n: number): boolean => !where.strict || n >= STRICT_ROWS;
  const labelled = ({ outcome }: OutcomePane["versions"][number]): number => outcome.n.reduce((sum, n) => sum + n, 0);
  return {
    track: where.track,
    startMs: where.startMs,
    watermarkMs: where.watermarkMs,
    versions: [...versions.values()].filter((v) => enough(labelled(v))).sort((a, b) => a.version - b.version),
    pairs: [...pairs.values()].filter(({ n }) => enough(n)).sort((a, b) => a.version - b.version || a.other - b.other),
    corrected,
    late: 0,
    unmatched: 0,
  };
}

function countPair(pairs: Map<string, PairCounts>, row: JoinRow, bins: ProfileBins): void {
  const key = `${row.version}/${row.other}`;
  let pair = pairs.get(key);
  if (pair === undefined) {
    pair = { version: row.version, other: row.other, n: 0, differenceMicro: 0, squareMicro: 0 };
    pairs.set(key, pair);
  }
  const difference = lossMicro(bins, row.score, row.label) - lossMicro(bins, row.otherScore, row.label);
  pair.n += 1;
  pair.differenceMicro += difference;
  pair.squareMicro += Math.round((difference / MICRO) ** 2 * MICRO);
}
