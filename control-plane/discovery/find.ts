// From requirements to versions: which meet them, how well, and what the others lack. Pure.
// F1 Every requirement that is set must be met. F2 Reasons name the figure asked and the figure found.
// F3 The score orders: half for being the champion and well measured, half for how little is left over.
import type { Description, Resources, Scope, Version } from "#kernel/domain/model.ts";
import { sizeText } from "../scheduler/door.ts";
import { championOf, runsOf, versionsOf, type View } from "../world/door.ts";

/** What is looked for; absent fields ask nothing. */
export type Requirements = {
  kind?: string;
  words: readonly string[];
  features: readonly { name: string; type?: "number" | "category" }[];
  uses: readonly string[];
  metrics: Readonly<Record<string, number>>;
  resources: Partial<Resources>;
  explainability: readonly string[];
  scope: Scope;
  /** The named node of strict mode, with what it has in all. */
  node?: { name: string; shares: Resources };
};

export type Match = {
  model: string;
  version: number;
  champion: boolean;
  score: number;
  reasons: string[];
  metrics: Readonly<Record<string, number>>;
};
export type NonMatch = { model: string; version: number; reasons: string[] };
export type Found = { matches: Match[]; nonMatches: NonMatch[] };

export function findModels(view: View, wanted: Requirements, limit: number): Found {
  const matches: Match[] = [];
  const others: (NonMatch & { met: number })[] = [];
  for (const { value } of view.all("model")) {
    const model = value.description.name;
    // A strict track begins at the open champion.
    const champion = championOf(view, model, wanted.scope) || championOf(view, model, "open");
    const versions = versionsOf(view, model);
    if (versions.length === 0) others.push({ model, version: 0, reasons: [noVersion(view, model)], met: 0 });
    for (const version of versions) {
      const judged = judge(value.description, version, wanted);
      const isChampion = version.version === champion;
      if (judged.missing.length === 0)
        matches.push({
          model,
          version: version.version,
          champion: isChampion,
          score: scoreOf(judged, isChampion),
          reasons: [
            ...(isChampion ? ["is the champion"] : [`an earlier or unproven version; the champion is ${champion}`]),
            ...judged.met,
          ],
          metrics: measured(value.description, version),
        });
      else if (isChampion)
        others.push({ model, version: version.version, reasons: judged.missing, met: judged.met.length });
    }
  }
  matches.sort((a, b) => b.score - a.score || (a.model < b.model ? -1 : a.model > b.model ? 1 : b.version - a.version));
  others.sort((a, b) => a.reasons.length - b.reasons.length || b.met - a.met || (a.model < b.model ? -1 : 1));
  return {
    matches: matches.slice(0, limit),
    nonMatches: others.slice(0, limit).map(({ model, version, reasons }) => ({ model, version, reasons })),
  };
}

function noVersion(view: View, model: string): string {
  const run = runsOf(view, model).at(-1);
  return run === undefined ? "has no version yet" : `has no version yet: run ${run.id} is ${run.phase}`;
}

/** What was measured stands before what was promised. */
const measured = (d: Description, v: Version): Readonly<Record<string, number>> => ({ ...d.performance, ...v.metrics });

type Judged = { met: string[]; missing: string[]; shares: number[] };

function judge(d: Description, version: Version, wanted: Requirements): Judged {
  const judged: Judged = { met: [], missing: [], shares: [] };
  const say = (holds: boolean, met: string, missing: string): void =>
    void (holds ? judged.met : judged.missing).push(holds ? met : missing);
  if (wanted.kind !== undefined) say(d.kind === wanted.kind, `does ${d.kind}`, `does ${d.kind}, not ${wanted.kind}`);
  if (wanted.words.length > 0) {
    const text = `${d.name} ${d.summary}`.toLowerCase();
    const absent = wanted.words.filter((word) => !text.includes(word.toLowerCase()));
    say(absent.length === 0, `speaks of ${wanted.words.join(", ")}`, `says nothing of ${absent.join(", ")}`);
  }
  judgeFeatures(version, wanted, judged);
  judgeMetrics(measured(d, version), wanted, judged);
  judgeResources(d, wanted, judged);
  if (wanted.explainability.length > 0) {
    const absent = wanted.explainability.filter((way) => !d.explainability.includes(way));
    say(
      absent.length === 0,
      `explains by ${wanted.explainability.join(", ")}`,
      `cannot explain by ${absent.join(", ")}${d.explainability.length > 0 ? ` (but by ${d.explainability.join(", ")})` : ""}`,
    );
  }
  return judged;
}

function judgeFeatures(version: Version, { features, uses }: Requirements, judged: Judged): void {
  if (features.length > 0) {
    const offered = new Map(features.map((feature) => [feature.name, feature.type]));
    const absent = version.features.filter(({ name }) => !offered.has(name)).map(({ name }) => name);
    const other = version.features.filter(
      ({ name, type }) => offered.get(name) !== undefined && offered.get(name) !== type,
    );
    if (absent.length > 0)
      judged.missing.push(
        `needs ${absent.length > 8 ? `${absent.slice(0, 8).join(", ")} and ${absent.length - 8} more` : absent.join(", ")}, which you do not send`,
      );
    for (const { name, type } of other)
      judged.missing.push(`takes ${name} as a ${type}, you send a ${offered.get(name) ?? ""}`);
    if (absent.length + other.length === 0) {
      judged.met.push(`needs only features you send (${version.features.length} of ${features.length})`);
      judged.shares.push(Math.min(1, version.features.length / features.length));
    }
  }
  if (uses.length > 0) {
    const has = new Set(version.features.map(({ name }) => name));
    const absent = uses.filter((name) => !has.has(name));
    if (absent.length > 0) judged.missing.push(`does not use ${absent.join(", ")}`);
    else judged.met.push(`uses ${uses.join(", ")}`);
  }
}

/** Metrics of these beginnings are losses: less is better. */
const LOSS = /^(brier|rmse|mae|log_loss)/;

function judgeMetrics(has: Readonly<Record<string, number>>, { metrics }: Requirements, judged: Judged): void {
  for (const [name, bound] of Object.entries(metrics)) {
    const value = has[name];
    const loss = LOSS.test(name);
    const asked = `${loss ? "at most" : "at least"} ${figure(bound)} was asked`;
    if (value === undefined) judged.missing.push(`${name} is not known; ${asked}`);
    else if (loss ? value <= bound : value >= bound) {
      judged.met.push(`${name} is ${figure(value)}; ${asked}`);
      const room = Math.abs(value - bound) / Math.max(Math.abs(bound), Math.abs(value), 1e-9);
      judged.shares.push(Math.min(1, 0.5 + room));
    } else judged.missing.push(`${name} is ${figure(value)}; ${asked}`);
  }
}

function judgeResources({ runResources: needs }: Description, { resources, node }: Requirements, judged: Judged): void {
  const { cpu, memoryBytes } = resources;
  if (cpu !== undefined) bounded(judged, { what: "cpu", needs: needs.cpu, bound: cpu, text: figure });
  if (memoryBytes !== undefined)
    bounded(judged, { what: "memory", needs: needs.memoryBytes, bound: memoryBytes, text: sizeText });
  if (node === undefined) return;
  const { name, shares } = node;
  const fits = needs.cpu <= shares.cpu + 1e-9 && needs.memoryBytes <= shares.memoryBytes;
  if (fits) judged.met.push(`fits on node ${name}`);
  else
    judged.missing.push(
      `needs cpu ${figure(needs.cpu)} and memory ${sizeText(needs.memoryBytes)}; node ${name} has ${figure(shares.cpu)} and ${sizeText(shares.memoryBytes)} in all`,
    );
}

type Bound = { what: string; needs: number; bound: number; text: (value: number) => string };

function bounded(judged: Judged, { what, needs, bound, text }: Bound): void {
  const says = `a replica needs ${what} ${text(needs)}; at most ${text(bound)} was asked`;
  if (needs > bound + 1e-9) return void judged.missing.push(says);
  judged.met.push(says);
  judged.shares.push(bound === 0 ? 1 : 1 - needs / bound / 2);
}

function scoreOf({ shares }: Judged, champion: boolean): number {
  const fit = shares.length === 0 ? 1 : shares.reduce((sum, share) => sum + share, 0) / shares.length;
  return Number(((champion ? 0.5 : 0.25) + fit / 2).toFixed(4));
}

const figure = (value: number): string => String(Number(value.toFixed(4)));
