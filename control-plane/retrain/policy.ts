// Stage: episodes that call for retraining become orders, or orders withheld with the reason. Drift states facts, this applies the policy.
// Y1 An order, its run and the track's budget are one batch; ids come from (track, episode, attempt), so a repeat finds them.
// Y2 Times are those of the track's event clock. Y3 A withheld order is written once per episode and reason; it is weighed again at each pass.
import { DAY_MS } from "#kernel/domain/profile.ts";
import { derivedId } from "#kernel/domain/ids.ts";
import { type EpisodeState, KEYS, type OrderState, type RunState, type TrackState } from "#kernel/domain/state.ts";
import { type Pass, shortened } from "../pass/door.ts";
import { descriptionOf, eventClock, type Held, liveRollout, RUN_ENDED, runsOf, trackOf } from "../world/door.ts";

const MONTH_MS = 30 * DAY_MS;
/** Runs one episode may cause: one that fails is tried again after the cooldown. */
const ATTEMPTS_MAX = 3;

export function policy(pass: Pass): void {
  const { draft } = pass;
  const confirmed = draft
    .all("episode")
    .flatMap(({ value }) => (value.confirmedMs > 0 ? [value] : []))
    .sort((a, b) => a.confirmedMs - b.confirmedMs || (a.id < b.id ? -1 : 1));
  for (const episode of confirmed) {
    if (draft.full) return;
    const track = trackOf(draft, episode.model, episode.scope);
    const mode = descriptionOf(draft, episode.model)?.policy.retraining;
    if (track === undefined || mode === undefined || mode === "observe") continue;
    // A fault may be over before anybody looked: that no run came of it is on record all the same.
    if (episode.class === "quality")
      withhold(pass, episode, {
        code: "quality",
        reason: episode.withheld || "data fault: retraining would learn it",
      });
    else if (episode.state === "Confirmed" && episode.retrain) weigh(pass, episode, track);
  }
}

function weigh(pass: Pass, episode: EpisodeState, track: Held<TrackState>): void {
  const attempt = 1 + runsOf(pass.draft, episode.model).filter((run) => run.episode === episode.id).length;
  const why = obstacle(pass, episode, track.value, attempt);
  if (why === "settled") return;
  if (why !== undefined) withhold(pass, episode, why);
  else order(pass, episode, track, attempt);
}

type Obstacle = { code: string; reason: string };

/** Why no order is given now; `settled` when this episode already has what it asked for. */
function obstacle(
  pass: Pass,
  episode: EpisodeState,
  track: TrackState,
  attempt: number,
): Obstacle | "settled" | undefined {
  const { draft } = pass;
  const { model, scope } = episode;
  const mine = runsOf(draft, model).filter((run) => run.episode === episode.id);
  if (mine.some((run) => !RUN_ENDED.has(run.phase) || run.phase === "Succeeded")) return "settled";
  if (attempt > ATTEMPTS_MAX) return { code: "attempts", reason: `${ATTEMPTS_MAX} runs of this episode failed` };
  const description = descriptionOf(draft, model);
  if (description?.policy.retraining === "suggest")
    return { code: "suggest", reason: "the policy is suggest: a person orders (driftmesh retrain)" };
  if (description?.trainCode === undefined)
    return { code: "no-code", reason: "the model came as a file: there is no train code" };
  if (description.trainCode.kind === "git")
    return { code: "git", reason: "train code by git is stored, but running it is not built yet" };
  if (scope !== "open")
    return { code: "strict", reason: "runs of strict tracks are not built yet: they need a sandbox without network" };
  if (track.frozen) return { code: "frozen", reason: "the track is frozen" };
  const fault = draft
    .of("episode", String(episode.track))
    .find(({ value }) => value.class === "quality" && value.state !== "Closed");
  if (fault !== undefined)
    return { code: "quality", reason: `data fault ${fault.value.id} is open: retraining would learn it` };
  const nowMs = clockOf(pass, episode);
  if (nowMs < track.cooldownUntilMs)
    return { code: "cooldown", reason: `cooldown until ${dayText(track.cooldownUntilMs)} of event time` };
  const recent = recentOrders(track, nowMs).length;
  if (recent >= description.policy.runsPerMonth)
    return {
      code: "budget",
      reason: `the budget is used up: ${recent} orders in 30 days, ${description.policy.runsPerMonth} are allowed`,
    };
  const other = runsOf(draft, model).find((run) => run.scope === scope && !RUN_ENDED.has(run.phase));
  if (other !== undefined) return { code: "busy", reason: `run ${other.id} is under way` };
  const rollout = liveRollout(draft, model, scope);
  return rollout === undefined ? undefined : { code: "busy", reason: `rollout ${rollout.value.id} is under way` };
}

const recentOrders = (track: TrackState, nowMs: number): number[] =>
  track.ordersMs.filter((ms) => ms > nowMs - MONTH_MS);
const clockOf = ({ draft }: Pass, episode: EpisodeState): number =>
  Math.max(episode.confirmedMs, eventClock(draft, episode.track));
const dayText = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

function withhold(pass: Pass, episode: EpisodeState, { code, reason }: Obstacle): void {
  const id = derivedId("ord", String(episode.track), episode.id, "withheld", code);
  if (pass.draft.get("order", KEYS.order(id)) === undefined) putOrder(pass, episode, id, reason);
}

/** Gives the order: order, run and budget together (Y1). */
function order(pass: Pass, episode: EpisodeState, track: Held<TrackState>, attempt: number): void {
  const { draft, nowMs } = pass;
  const parts = [String(episode.track), episode.id, String(attempt)];
  const id = derivedId("ord", ...parts);
  const key = KEYS.run(derivedId("run", ...parts));
  if (draft.get("run", key) !== undefined) return;
  putOrder(pass, episode, id, "");
  const run: RunState = {
    id: derivedId("run", ...parts),
    model: episode.model,
    scope: episode.scope,
    trigger: "drift",
    order: id,
    episode: episode.id,
    phase: "Pending",
    attempt: 0,
    node: "",
    manifestSha256: "",
    reason: "ordered",
    version: 0,
    metrics: {},
    logSha256: "",
    ...(episode.trace === undefined ? {} : { trace: episode.trace }),
    createdMs: nowMs,
    changedMs: nowMs,
  };
  draft.begin("run", key, {
    model: run.model,
    scope: run.scope,
    to: "Pending",
    reason: `ordered for episode ${episode.id}`,
  });
  draft.put("run", key, run);
  const eventMs = clockOf(pass, episode);
  draft.put("track", track.key, { ...track.value, ordersMs: [...recentOrders(track.value, eventMs), eventMs] });
}

function putOrder(pass: Pass, episode: EpisodeState, id: string, withheld: string): void {
  const { draft, nowMs } = pass;
  const { model, scope } = episode;
  const state: OrderState = {
    id,
    kind: "retrain",
    model,
    scope,
    target: episode.id,
    by: "policy",
    reason: orderReason(episode),
    withheld: shortened(withheld),
    evidence: evidenceOf(episode),
    eventMs: episode.class === "quality" ? episode.confirmedMs : clockOf(pass, episode),
    createdMs: nowMs,
  };
  const key = KEYS.order(id);
  draft.event({
    kind: "order",
    key,
    model,
    scope,
    from: "",
    to: withheld === "" ? "given" : "withheld",
    reason: withheld || state.reason,
    numbers: episode.numbers,
  });
  draft.put("order", key, state);
}

function orderReason({ class: kind, fromMs, id }: EpisodeState): string {
  return `${kind} drift since ${dayText(fromMs)} (episode ${id})`;
}

/** What the decision rests on: the episode's causes and numbers, and the name of the drift decision for a replay. */
function evidenceOf(episode: EpisodeState): Record<string, number | string> {
  const causes = episode.causes
    .slice(0, 20)
    .map(({ feature, kind, value }) => [feature, `${kind} ${Number(value.toPrecision(4))}`] as const);
  return {
    episode: episode.id,
    class: episode.class,
    from: dayText(episode.fromMs),
    confirmed: dayText(episode.confirmedMs),
    ...Object.fromEntries(Object.entries(episode.numbers).slice(0, 40)),
    ...Object.fromEntries(causes),
    decision: `episode-${episode.track}-${episode.seq}`,
  };
}
