// Chapters 4-7: the live flights. Storms, a broken feed and a changed world come as they come; the client watches.
import { RolloutStage, type Rollout } from "#proto/driftmesh/v1/rollouts_pb.ts";
import { RunPhase } from "#proto/driftmesh/v1/retraining_pb.ts";
import { FAULT } from "../../features.ts";
import { HISTORY_DAYS } from "../../history.ts";
import { feed } from "../feed.ts";
import { dayOf, look } from "../watch.ts";
import { MODEL, until, type World } from "../world.ts";

const LOOK_MS = 300;
/** Shadow days of the run ordered by hand: it need not take long to say "not better". */
const HAND_SHADOW_DAYS = 5;
const STORMS = { fromDay: 39, toDay: 55 } as const;
/** The data end with the last day of June. */
const END_DAY = 181;
/** Days without a promotion after which the story is not played on. */
const PATIENCE_DAYS = 45;

export async function live(world: World): Promise<void> {
  const { print, mesh, options } = world;
  const { every, offset, changeDay, faultDay } = options;
  print.chapter("Infer and tell the truth: the flights of day 28 on, at a constant pace");
  print.line(
    `the client breaks its lateness features on days ${faultDay}-${faultDay + FAULT.days - 1} (percent instead of fractions)`,
  );
  print.line(
    `the client makes flights before 11:00 20 minutes later from day ${changeDay} on; the mesh is told neither`,
  );
  let day = HISTORY_DAYS;
  const watcher = new AbortController();
  const watching = watch(world, () => day, watcher.signal);
  let hand: Promise<unknown> | undefined;
  world.fed = await feed(mesh, {
    flights: world.flights,
    asked: { every, offset },
    story: { changeDay, faultDay },
    fromDay: HISTORY_DAYS,
    toDay: END_DAY,
    speed: options.speed,
    follows: world.follows,
    pinned: world.pinned,
    recorder: world.recorder,
    nowMs: world.nowMs,
    sleep: world.sleep,
    onDay: (today) => {
      day = today;
      world.onDay(today);
      const promoted = rolloutsOf(world).some((r) => r.stage === RolloutStage.PROMOTED);
      if (hand === undefined && promoted) {
        print.line(`day ${today}: a run is ordered by hand, with nothing new to learn`);
        const shadow = String(HAND_SHADOW_DAYS);
        hand = mesh.cli(
          "retrain",
          MODEL,
          "--reason",
          "by hand, after the promotion",
          "--shadow-days",
          shadow,
          "--no-wait",
        );
      }
      return today > options.toDay && (settled(world) || (!promoted && today > options.toDay + PATIENCE_DAYS));
    },
  });
  await hand;
  await until(world, 10_000, () => Promise.resolve(settled(world) ? true : undefined));
  watcher.abort();
  await watching;
  const { rows, requests, labels, seconds, lagMs, repeated, toDay } = world.fed;
  print.line(
    `${rows} rows in ${requests} requests and ${labels} truths to both deployments, days ${HISTORY_DAYS}-${toDay}, in ${seconds.toFixed(1)} s`,
  );
  print.line(
    `${Math.round((2 * rows) / seconds)} rows/s answered; the replayer was at most ${Math.round(lagMs)} ms behind its clock; ${repeated} calls repeated`,
  );
}

/** Is the story told: a run by hand judged? */
function settled(world: World): boolean {
  const hand = [...world.seen.runs.values()].find((r) => r.trigger === "hand");
  if (hand === undefined) return false;
  if (hand.phase === RunPhase.FAILED) return true;
  return rolloutsOf(world).some((r) => r.run === hand.id && hasEnded(r));
}

async function watch(world: World, day: () => number, signal: AbortSignal): Promise<void> {
  const { mesh, print, seen } = world;
  while (!signal.aborted) {
    // A part that is away for a moment is looked at again at the next turn.
    await look({ mesh, model: MODEL, print, seen, day }).catch(() => undefined);
    await world.sleep(LOOK_MS);
  }
  await look({ mesh, model: MODEL, print, seen, day });
}

export function storms({ print, seen, options }: World): void {
  const { changeDay, faultDay } = options;
  print.chapter("February storms are marked transient");
  // What was confirmed after the change is the change's, even if it was dated back to a storm.
  const episodes = [...seen.episodes.values()].filter(
    (e) =>
      e.class !== "quality" &&
      dayOf(e.fromTime) <= STORMS.toDay &&
      !(dayOf(e.toTime) < STORMS.fromDay) &&
      !(dayOf(e.confirmTime) >= changeDay),
  );
  for (const e of episodes)
    print.line(`episode ${e.class}, days ${dayOf(e.fromTime)}-${dayOf(e.toTime)}: ${e.closedAs}`);
  const transient = episodes.every((e) => e.closedAs === "transient");
  if (faultDay <= STORMS.toDay && episodes.length === 0)
    print.line("the broken feed hides the storms: on its days features are faulty, and say nothing else");
  else
    print.holds(
      episodes.length > 0 && transient,
      "the storms were seen, and each of their episodes closed as transient",
    );
  const orders = [...seen.orders.values()].filter((o) => o.withheld === "" && dayOf(o.eventTime) <= STORMS.toDay);
  print.holds(orders.length === 0, "no run was ordered");
}

export function brokenFeed({ print, seen, options }: World): void {
  const { faultDay, changeDay } = options;
  const endDay = faultDay + FAULT.days;
  print.chapter(`A broken feed on days ${faultDay}-${endDay - 1} is a fault of the data, not a reason to retrain`);
  const faults = [...seen.episodes.values()].filter((e) => e.class === "quality");
  for (const e of faults) {
    const causes = e.causes.map((c) => `${c.feature} ${c.kind} ${Number(c.value.toPrecision(3))}`);
    print.line(`episode days ${dayOf(e.fromTime)}-${dayOf(e.toTime)} (${e.closedAs}): ${causes.join(", ")}`);
  }
  const found = faults.find((e) => dayOf(e.fromTime) >= faultDay && dayOf(e.fromTime) < endDay);
  print.holds(found !== undefined, "an episode of class quality began within the fault");
  const orders = [...seen.orders.values()].filter((o) => o.by === "policy");
  const withheld = orders.filter((o) => o.withheld !== "");
  for (const o of withheld) {
    const evidence = Object.entries(o.evidence).map(([name, value]) => `${name} ${value}`);
    print.line(`withheld: ${o.withheld}; ${evidence.join(", ")}`);
  }
  print.holds(
    found !== undefined && withheld.some((o) => o.evidence["episode"] === found.id),
    "the order withheld for it stands in the record with its evidence",
  );
  const given = orders.filter((o) => o.withheld === "").map((o) => dayOf(o.eventTime));
  // The first day of a fault is known when it is over.
  print.holds(!given.some((day) => day > faultDay && day < endDay), "no run was ordered while the feed was broken");
  print.holds(!given.some((day) => day < changeDay), "no run was ordered before the change");
}

export function changedWorld({ print, seen, options, fed }: World): void {
  const { changeDay } = options;
  print.chapter(`The world changes on day ${changeDay}: found, retrained, tried in shadow, promoted`);
  const confirmed = [...seen.episodes.values()].filter((e) => e.class !== "quality" && e.confirmTime !== undefined);
  for (const e of confirmed)
    print.line(`episode ${e.class} from day ${dayOf(e.fromTime)}, confirmed day ${dayOf(e.confirmTime)}`);
  print.holds(
    confirmed.length > 0 && confirmed.every((e) => dayOf(e.confirmTime) >= changeDay),
    "an episode was confirmed after the change, and none before",
  );
  const order = [...seen.orders.values()].find((o) => o.by === "policy" && o.withheld === "");
  print.holds(
    order !== undefined && dayOf(order.eventTime) >= changeDay,
    "the policy's first order came after the change",
  );
  const drift = [...seen.runs.values()].filter((r) => r.trigger === "drift" && r.phase === RunPhase.SUCCEEDED);
  print.holds(drift.length > 0, `a run made version ${drift[0]?.version ?? 0}`);
  const tried = rolloutsIn(seen.rollouts).filter((r) => drift.some((run) => run.id === r.run));
  for (const r of tried) print.line(`rollout of version ${r.challenger}: ${r.reason}; ${numbersText(r)}`);
  const promoted = tried.find((r) => r.stage === RolloutStage.PROMOTED);
  print.holds(promoted !== undefined, "its challenger was promoted on paired evidence and kept after probation");
  print.holds((promoted?.numbers["mean_gain"] ?? 0) > 0, "its mean gain in Brier is above 0");
  const hand = [...seen.runs.values()].find((r) => r.trigger === "hand");
  const judged = rolloutsIn(seen.rollouts).find((r) => r.run === hand?.id);
  if (judged !== undefined) print.line(`the run by hand: ${judged.reason}; ${numbersText(judged)}`);
  const underWay = hand?.phase !== RunPhase.FAILED && !(judged !== undefined && hasEnded(judged));
  if (promoted !== undefined && underWay && (fed?.toDay ?? 0) >= END_DAY - 1)
    print.line(`the run by hand is not judged yet, and the data end with day ${END_DAY - 1}: nothing is claimed of it`);
  else
    print.holds(
      judged?.stage === RolloutStage.REJECTED,
      "the run ordered by hand afterwards is not better and is rejected",
    );
}

const hasEnded = (r: Rollout): boolean => r.stage >= RolloutStage.PROMOTED && r.stage <= RolloutStage.ROLLED_BACK;
const rolloutsOf = (world: World): Rollout[] => rolloutsIn(world.seen.rollouts);
const rolloutsIn = (rollouts: Map<string, Rollout>): Rollout[] => [...rollouts.values()];
const numbersText = (r: Rollout): string =>
  Object.entries(r.numbers)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
    .join(", ");
