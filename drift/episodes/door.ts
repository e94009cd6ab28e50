// Owns the life of episodes: Suspect -> Confirmed -> Closed(recovered | retrained | rejected | data-fixed), Suspect -> Closed(transient).
// L1 At most one episode of risk and one of data quality are open. L2 Confirmed needs two blocks; Suspect never orders.
// L3 `retrain` holds only for a confirmed risk while no data fault is open; otherwise `withheld` says why.
// L4 An end the leader states (retrained, rejected, data-fixed) closes the episode it names, once.
import { derivedId } from "#kernel/domain/ids.ts";
import { DAY_MS } from "#kernel/domain/profile.ts";
import type { EpisodeClass, EpisodeState, TrackFact } from "#kernel/domain/state.ts";

export type Cause = EpisodeState["causes"][number];
type Numbers = Readonly<Record<string, number>>;

export type OpenEpisode = {
  number: number;
  state: "Suspect" | "Confirmed";
  class: EpisodeClass;
  /** What keeps it open: realised risk (or the labels), or features alone. */
  seenBy: "risk" | "features" | "quality";
  fromMs: number;
  confirmedMs: number;
  causes: Cause[];
  withheld: string;
  numbers: Numbers;
  /** Blocks that showed it, and quiet ones since. */
  blocks: number;
  calm: number;
  calmFromMs: number;
};
export type EpisodesFold = { next: number; risk: OpenEpisode | null; quality: OpenEpisode | null };

/** An episode to tell of; `closedAs` and `toMs` are set when it ended. */
export type Told = { episode: OpenEpisode; closedAs: EpisodeState["closedAs"]; toMs: number; retrain: boolean };

/** Quiet blocks after which a suspicion, a data fault or a confirmed risk is over. */
const CALM = { suspect: 2, quality: 2, confirmed: 5 } as const;
const BLOCKS_TO_CONFIRM = 2;

export const openEpisodes = (): EpisodesFold => ({ next: 1, risk: null, quality: null });

/** What a closed feature block says of data faults. */
export function qualityBlock(fold: EpisodesFold, at: { dayMs: number; faults: Cause[]; numbers: Numbers }): Told[] {
  const open = fold.quality;
  if (open === null) {
    if (at.faults.length === 0) return [];
    fold.quality = begun(fold, "quality", { ...at, causes: at.faults, class: "quality", fromMs: at.dayMs });
    fold.quality.withheld = faultWords(at.faults);
    return [told(fold, fold.quality), ...gateRisk(fold)];
  }
  if (at.faults.length === 0) {
    calmed(open, at.dayMs);
    if (open.calm < CALM.quality) return [];
    fold.quality = null;
    const closed = close(open, open.state === "Suspect" ? "transient" : "recovered", open.calmFromMs);
    return [closed, ...gateRisk(fold)];
  }
  const before = open.withheld;
  seenAgain(open, { causes: at.faults, numbers: at.numbers });
  open.withheld = faultWords(at.faults);
  const confirmed = open.state === "Suspect" && open.blocks >= BLOCKS_TO_CONFIRM;
  if (confirmed) confirm(open, at.dayMs);
  const other = before !== open.withheld;
  return confirmed || other ? [told(fold, open), ...(other ? gateRisk(fold) : [])] : [];
}

function faultWords(faults: readonly Cause[]): string {
  const words = faults.map(({ feature, kind }) => `${feature} (${kind})`).sort();
  return `data fault: ${words.join(", ")}`;
}

/** What a closed outcome block says of the realised risk. */
export type RiskSighting = {
  dayMs: number;
  /** The risk's detector is over its suspicion, over its confirmation. */
  suspicious: boolean;
  convicting: boolean;
  /** The block's excess is above what is tolerated. */
  excessive: boolean;
  /** Labels or losses are outside of what the profile's blocks show, or features drift. */
  unusual: boolean;
  class: EpisodeClass;
  causes: Cause[];
  /** First day of the change, as far as the blocks tell. */
  changeMs: number;
  numbers: Numbers;
  /** A rollout is under way: a confirmed episode waits for its end. */
  held: boolean;
};

export function riskBlock(fold: EpisodesFold, at: RiskSighting): Told[] {
  const open = fold.risk;
  if (open === null) {
    if (!at.suspicious && !at.unusual) return [];
    fold.risk = begun(fold, "risk", { ...at, fromMs: at.suspicious ? at.changeMs : at.dayMs });
    return [told(fold, fold.risk)];
  }
  return open.state === "Suspect" ? suspected(fold, open, at) : convicted(fold, open, at);
}

function suspected(fold: EpisodesFold, open: OpenEpisode, at: RiskSighting): Told[] {
  if (!at.suspicious && !at.unusual) {
    calmed(open, at.dayMs);
    if (open.calm < CALM.suspect) return [];
    fold.risk = null;
    return [close(open, "transient", open.calmFromMs)];
  }
  const worse = at.suspicious && open.class !== "concept";
  seenAgain(open, { causes: at.causes, numbers: at.numbers });
  open.seenBy = "risk";
  if (at.suspicious) open.class = at.class;
  if (!at.convicting || open.blocks < BLOCKS_TO_CONFIRM) return worse ? [told(fold, open)] : [];
  confirm(open, at.dayMs);
  open.fromMs = at.changeMs;
  open.withheld = fold.quality?.withheld ?? "";
  return [told(fold, open)];
}

function convicted(fold: EpisodesFold, open: OpenEpisode, at: RiskSighting): Told[] {
  if (at.excessive || at.held) {
    seenAgain(open, { causes: at.causes, numbers: at.numbers });
    return [];
  }
  calmed(open, at.dayMs);
  if (open.calm < CALM.confirmed) return [];
  fold.risk = null;
  return [close(open, "recovered", open.calmFromMs)];
}

/** What a closed feature block says of drift in the features: it warns, it never confirms. */
export function featureBlock(fold: EpisodesFold, at: { dayMs: number; drifting: Cause[]; numbers: Numbers }): Told[] {
  const open = fold.risk;
  if (open === null) {
    if (at.drifting.length === 0) return [];
    fold.risk = begun(fold, "features", { ...at, causes: at.drifting, class: "covariate", fromMs: at.dayMs });
    return [told(fold, fold.risk)];
  }
  if (open.seenBy !== "features" || at.drifting.length > 0) return [];
  fold.risk = null;
  return [close(open, "transient", at.dayMs)];
}

/** The leader ended an episode by a promotion, a rejection or a person's word (L4). */
export function endEpisode(
  fold: EpisodesFold,
  track: number,
  ended: NonNullable<TrackFact["ended"]>,
  nowMs: number,
): Told[] {
  const { risk, quality } = fold;
  if (risk !== null && episodeId(track, risk.number) === ended.episode) {
    fold.risk = null;
    return [close(risk, risk.state === "Suspect" ? "transient" : ended.as, nowMs)];
  }
  if (quality !== null && episodeId(track, quality.number) === ended.episode) {
    fold.quality = null;
    const closed = close(quality, quality.state === "Suspect" ? "transient" : "data-fixed", nowMs);
    return [closed, ...gateRisk(fold)];
  }
  return [];
}

/** Another champion serves: what was held against the former one is over. */
export function championChanged(fold: EpisodesFold, nowMs: number): Told[] {
  const { risk } = fold;
  if (risk === null) return [];
  fold.risk = null;
  return [close(risk, risk.state === "Suspect" ? "transient" : "retrained", nowMs)];
}

export const episodeId = (track: number, number: number): string => derivedId("epi", String(track), String(number));

/** What is told of an episode. */
export function episodeState(
  t: Told,
  of: { track: number; model: string; scope: EpisodeState["scope"]; seq: number },
): EpisodeState {
  const { episode } = t;
  return {
    id: episodeId(of.track, episode.number),
    track: of.track,
    model: of.model,
    scope: of.scope,
    number: episode.number,
    state: t.closedAs === "" ? episode.state : "Closed",
    closedAs: t.closedAs,
    class: episode.class,
    fromMs: episode.fromMs,
    confirmedMs: episode.confirmedMs,
    toMs: t.toMs,
    causes: episode.causes,
    retrain: t.retrain,
    withheld: episode.withheld,
    numbers: { ...episode.numbers, blocks: episode.blocks },
    seq: of.seq,
  };
}

/** A confirmed risk is told again when a data fault begins or ends: its `retrain` has changed (L3). */
function gateRisk(fold: EpisodesFold): Told[] {
  const { risk, quality } = fold;
  if (risk === null || risk.state === "Suspect") return [];
  risk.withheld = quality?.withheld ?? "";
  return [told(fold, risk)];
}

type Beginning = { causes: Cause[]; numbers: Numbers; class: EpisodeClass; fromMs: number };

function begun(fold: EpisodesFold, seenBy: OpenEpisode["seenBy"], at: Beginning): OpenEpisode {
  return {
    number: fold.next++,
    state: "Suspect",
    class: at.class,
    seenBy,
    fromMs: at.fromMs,
    confirmedMs: 0,
    causes: at.causes,
    withheld: "",
    numbers: at.numbers,
    blocks: 1,
    calm: 0,
    calmFromMs: 0,
  };
}

function seenAgain(open: OpenEpisode, at: { causes: Cause[]; numbers: Numbers }): void {
  open.causes = at.causes;
  open.numbers = at.numbers;
  open.blocks++;
  open.calm = 0;
}

function calmed(open: OpenEpisode, dayMs: number): void {
  if (open.calm === 0) open.calmFromMs = dayMs;
  open.calm++;
}

function confirm(open: OpenEpisode, dayMs: number): void {
  open.state = "Confirmed";
  open.confirmedMs = dayMs + DAY_MS;
}

function told(fold: EpisodesFold, episode: OpenEpisode): Told {
  const convicted = episode.state === "Confirmed" && episode.class !== "quality";
  return { episode, closedAs: "", toMs: 0, retrain: convicted && fold.quality === null };
}

const close = (episode: OpenEpisode, closedAs: Told["closedAs"], toMs: number): Told => ({
  episode,
  closedAs,
  toMs,
  retrain: false,
});
