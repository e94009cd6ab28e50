// Owns the drift story without a mesh: folds the flights' panes, answers orders as the leader would, prints what was decided.
// Usage: node bench/drift/offline.ts [--every 10] [--offset 0] [--change-day 75] [--fault-day 60] [--to-day 181] [--hand-day 100] [--verbose]
// O1 The stand-in leader obeys policy in the order of DESIGN.md: a run on a confirmed episode that wants one, shadow from the
//    next day, promotion or rejection by the evidence. It never looks at the story.
import { parseArgs } from "node:util";
import type { EpisodeState, EvidenceState, TrackFact } from "#kernel/domain/state.ts";
import { DEFAULT_POLICY } from "#kernel/domain/model.ts";
import { DAY_MS, HOUR_MS } from "#kernel/domain/profile.ts";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { fold, openFold, type Decision, type TrackInput } from "../../drift/verdict/door.ts";
import { DAY0_MS, dayOf, type Story } from "./flights.ts";
import { fit, HISTORY_DAYS, hoursOf, outcomePaneOf, paneOf, TRACK, worldOf, type Model, type World } from "./world.ts";

export type Told = { day: number; decision: Decision };
export type Result = {
  told: Told[];
  snapshotBytes: number;
  orders: { day: number; changeDay: number; rows: string }[];
  promotions: number[];
  rejections: { day: number; as: string }[];
  rollbacks: number[];
  featureAlarms: { day: number; feature: string }[];
};

const HORIZON_HOURS = DEFAULT_POLICY.labelHorizonHours;

/** Plays days 28 to `toDay`; `handDays` order a retraining by hand. */
export async function play(
  every: number,
  offset: number,
  story: Story,
  toDay: number,
  handDays: number[] = [],
): Promise<Result> {
  const world = await worldOf(every, offset, story);
  const mesh = new OfflineMesh(
    world,
    fit(world, (day) => day < HISTORY_DAYS, 0),
    handDays,
  );
  const waiting: { from: number; to: number; startMs: number; pane: () => TrackInput }[] = [];
  for (const hour of hoursOf(world)) {
    if (dayOf(hour.startMs) >= toDay) break;
    mesh.hour(hour);
    waiting.push({ ...hour, pane: mesh.outcome(hour) });
    while ((waiting[0]?.startMs ?? Infinity) + (HORIZON_HOURS + 1) * HOUR_MS <= hour.startMs + HOUR_MS) {
      const ripe = waiting.shift();
      if (ripe !== undefined) mesh.give(ripe.pane());
    }
  }
  return mesh.result();
}

type Hour = { from: number; to: number; startMs: number };

class OfflineMesh {
  readonly #world: World;
  readonly #models = new Map<number, Model>();
  readonly #state = openFold(TRACK);
  readonly #result: Result = {
    told: [],
    snapshotBytes: 0,
    orders: [],
    promotions: [],
    rejections: [],
    rollbacks: [],
    featureAlarms: [],
  };
  readonly #handDays: number[];
  readonly #faulty = new Set<number>();
  #champion = 1;
  #rollout: TrackFact["rollout"] = null;
  #revision = 0;
  #seq = 0;
  #nowMs = 0;
  #episode: EpisodeState | undefined;
  #cooldownMs = 0;
  #drifting = new Set<string>();
  readonly #numbers = new Map<number, number>();

  constructor(world: World, first: Model, handDays: number[]) {
    this.#world = world;
    this.#handDays = [...handDays];
    this.#models.set(1, first);
    this.#fact(null);
  }

  hour({ from, to, startMs }: Hour): void {
    this.#nowMs = startMs + HOUR_MS;
    const number = (this.#numbers.get(this.#champion) ?? 0) + 1;
    this.#numbers.set(this.#champion, number);
    const pane = paneOf(this.#world, this.#model(this.#champion), this.#champion, {
      from,
      to,
      number,
      watermarkMs: startMs + HOUR_MS,
    });
    this.give({ kind: "pane", pane });
    const hand = this.#handDays[0];
    if (hand !== undefined && startMs >= DAY0_MS + hand * DAY_MS && this.#rollout === null) {
      this.#handDays.shift();
      this.#order(0);
    }
  }

  /** What the joiner will say of this hour: who served it is settled now. */
  outcome(hour: Hour): () => TrackInput {
    const served = { version: this.#champion, model: this.#model(this.#champion) };
    const { stage, champion, challenger } = this.#rollout ?? { stage: "Promoted", champion: 0, challenger: 0 };
    const other = stage === "Shadow" ? challenger : stage === "Probation" ? champion : 0;
    const paired = other === 0 ? undefined : { version: other, model: this.#model(other) };
    return () => ({ kind: "outcome", outcome: outcomePaneOf(this.#world, served, paired, hour) });
  }

  give(input: TrackInput): void {
    const profileOf = (sha: string) => this.#models.get(Number(sha))?.profile;
    for (const decision of fold(this.#state, input, ++this.#seq, profileOf)) this.#take(decision);
  }

  result(): Result {
    return { ...this.#result, snapshotBytes: canonicalJson(this.#state).length };
  }

  #take(decision: Decision): void {
    const day = Math.round(((this.#nowMs - DAY0_MS) / DAY_MS) * 10) / 10;
    this.#result.told.push({ day, decision });
    if (decision.kind === "verdict") {
      const now = new Set(decision.verdict.features.filter((f) => f.drifting).map((f) => f.name));
      for (const feature of now) if (!this.#drifting.has(feature)) this.#result.featureAlarms.push({ day, feature });
      this.#drifting = now;
      if (decision.verdict.features.some((f) => f.fault !== "")) this.#faulty.add(dayOf(decision.verdict.blockMs));
    } else if (decision.kind === "episode") this.#heed(decision.episode);
    else this.#follow(decision.evidence);
  }

  #heed(episode: EpisodeState): void {
    if (!episode.retrain || this.#rollout !== null || this.#nowMs < this.#cooldownMs) return;
    this.#episode = episode;
    this.#order(episode.fromMs);
  }

  /** A run, done at once: trains on every labelled day so far but the faulty ones. */
  #order(changeMs: number): void {
    const known = dayOf(this.#nowMs - (HORIZON_HOURS + 1) * HOUR_MS) - 1;
    const version = Math.max(...this.#models.keys()) + 1;
    this.#models.set(
      version,
      fit(this.#world, (day) => day <= known && !this.#faulty.has(day), changeMs),
    );
    this.#result.orders.push({
      day: (this.#nowMs - DAY0_MS) / DAY_MS,
      changeDay: changeMs === 0 ? 0 : dayOf(changeMs),
      rows: `days 0-${known}`,
    });
    this.#rollout = { id: `rol_${version}`, champion: this.#champion, challenger: version, stage: "Shadow" };
    this.#fact(null);
  }

  #follow(evidence: EvidenceState): void {
    const rollout = this.#rollout;
    if (rollout === null || evidence.rollout !== rollout.id || evidence.stage !== rollout.stage) return;
    const day = (this.#nowMs - DAY0_MS) / DAY_MS;
    switch (evidence.decision) {
      case "promote":
        this.#champion = rollout.challenger;
        this.#rollout = { ...rollout, stage: "Probation" };
        this.#result.promotions.push(day);
        this.#end("retrained");
        break;
      case "keep":
        this.#rollout = null;
        this.#fact(null);
        break;
      case "roll-back":
        this.#champion = rollout.champion;
        this.#rollout = null;
        this.#result.rollbacks.push(day);
        this.#fact(null);
        break;
      case "reject-worse":
      case "reject-budget":
        this.#rollout = null;
        this.#result.rejections.push({ day, as: evidence.decision });
        this.#end("rejected");
        break;
      case "wait":
      case "freeze":
        break;
    }
  }

  #end(as: "retrained" | "rejected"): void {
    this.#cooldownMs = this.#nowMs + DEFAULT_POLICY.cooldownDays * DAY_MS;
    this.#fact(this.#episode === undefined ? null : { episode: this.#episode.id, as });
    this.#episode = undefined;
  }

  #fact(ended: TrackFact["ended"]): void {
    const { tolerance, scale, labelHorizonHours, shadowDays, probationDays } = DEFAULT_POLICY;
    const fact: TrackFact = {
      kind: "track",
      track: TRACK,
      revision: ++this.#revision,
      model: "flight-delay",
      scope: "open",
      champion: this.#champion,
      profileSha256: String(this.#champion),
      policy: { tolerance, scale, labelHorizonHours, shadowDays, probationDays },
      rollout: this.#rollout,
      ended,
    };
    this.give({ kind: "fact", fact });
  }

  #model(version: number): Model {
    const model = this.#models.get(version);
    if (model === undefined) throw new Error(`version ${version} was trained`);
    return model;
  }
}

/** One line of a decision. */
function lineOf({ day, decision }: Told, verbose: boolean): string | undefined {
  const at = (ms: number): string => (ms === 0 ? "-" : String((ms - DAY0_MS) / DAY_MS));
  switch (decision.kind) {
    case "episode": {
      const e = decision.episode;
      const causes = e.causes.map((c) => `${c.feature}:${c.kind}:${c.value.toFixed(3)}`).join(" ");
      return `day ${day}: episode ${e.number} ${e.state}${e.closedAs === "" ? "" : `(${e.closedAs})`} ${e.class} from ${at(e.fromMs)} confirmed ${at(e.confirmedMs)} to ${at(e.toMs)} retrain ${String(e.retrain)} ${e.withheld} | ${causes}`;
    }
    case "evidence": {
      const e = decision.evidence;
      return `day ${day}: evidence ${e.stage} blocks ${e.blocks}/${e.probationBlocks} gain ${e.meanGain.toFixed(4)} e ${e.eBetter.toFixed(2)} ${e.eWorse.toFixed(2)} ${e.eRollback.toFixed(2)} ${e.decision}`;
    }
    case "verdict": {
      const v = decision.verdict;
      const beyond = v.features.filter((f) => f.statistic > f.limit || f.drifting || f.fault !== "");
      if (!verbose) return undefined;
      return `day ${day}: verdict ${at(v.blockMs)} ${v.state} x ${(v.numbers["excess"] ?? 0).toFixed(4)} R ${(v.numbers["level"] ?? 0).toFixed(1)} ${beyond.map((f) => `${f.name} ${f.statistic.toFixed(3)}/${f.limit.toFixed(3)}${f.drifting ? "!" : ""}${f.fault}`).join(" ")}`;
    }
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      every: { type: "string", default: "10" },
      offset: { type: "string", default: "0" },
      "change-day": { type: "string" },
      "fault-day": { type: "string" },
      "to-day": { type: "string", default: "181" },
      "hand-day": { type: "string", multiple: true },
      verbose: { type: "boolean", default: false },
    },
  });
  const story = {
    changeDay: Number(values["change-day"] ?? Infinity),
    faultDay: Number(values["fault-day"] ?? Infinity),
  };
  const hands = (values["hand-day"] ?? []).map(Number);
  const result = await play(Number(values.every), Number(values.offset), story, Number(values["to-day"]), hands);
  for (const told of result.told) {
    const line = lineOf(told, values.verbose);
    if (line !== undefined) process.stdout.write(`${line}\n`);
  }
  process.stdout.write(`${JSON.stringify({ ...result, told: result.told.length })}\n`);
}
