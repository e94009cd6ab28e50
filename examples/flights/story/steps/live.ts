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
/** The last day the data reach. */
const LAST_DAY = 180;

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
    toDay: Math.min(LAST_DAY, options.toDay + 45),
    speed: options.speed,
    follows: world.follows,
    pinned: world.pinned,
    recorder: world.recorder,
    nowMs: world.nowMs,
    sleep: world.sleep,
    onDay: (today) => {
      day = today;
      world.onDay(today);
      if (hand === undefined && rolloutsOf(world).some((r) => r.stage === RolloutStage.PROMOTED)) {
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
      return today > options.toDay && settled(world);
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
  return rolloutsOf(world).some(
    (r) => r.run === hand.id && r.stage >= RolloutStage.PROMOTED && r.stage <= RolloutStage.ROLLED_BACK,
  );
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

export function storms({ print, seen }: World): void {
  print.chapter("February storms are marked transient");
  const episodes = [...seen.episodes.values()].filter(
    (e) => e.class !== "quality" && dayOf(e.fromTime) <= STORMS.toDay && dayOf(e.fromTime) >= STORMS.fromDay - 7,
  );
  for (const e of episodes)
    print.line(`episode ${e.class}, days ${dayOf(e.fromTime)}-${dayOf(e.toTime)}: ${e.closedAs}`);
  print.holds(
    episodes.length > 0 && episodes.every((e) => e.closedAs === "transient"),
    "each episode of the storms closed as transient",
  );
  const orders = [...seen.orders.values()].filter((o) => o.withheld === "" && dayOf(o.eventTime) <= STORMS.toDay);
  print.holds(orders.length === 0, "no run was ordered");
}

export function brokenFeed({ print, seen, options }: World): void {
  const { faultDay, changeDay } = options;
  print.chapter(
    `A broken feed on days ${faultDay}-${faultDay + FAULT.days - 1} is a fault of the data, not a reason to retrain`,
  );
  const faults = [...seen.episodes.values()].filter((e) => e.class === "quality");
  for (const e of faults) {
    const causes = e.causes.map((c) => `${c.feature} ${c.kind} ${Number(c.value.toPrecision(3))}`);
    print.line(`episode days ${dayOf(e.fromTime)}-${dayOf(e.toTime)} (${e.closedAs}): ${causes.join(", ")}`);
  }
  const overlaps = faults.some((e) => dayOf(e.fromTime) >= faultDay && dayOf(e.fromTime) < faultDay + FAULT.days);
  print.holds(overlaps, "an episode of class quality began within the fault");
  const withheld = [...seen.orders.values()].filter((o) => o.withheld !== "");
  for (const o of withheld)
    print.line(
      `withheld: ${o.withheld}; ${Object.entries(o.evidence)
        .map(([name, value]) => `${name} ${value}`)
        .join(", ")}`,
    );
  print.holds(withheld.length > 0, "the withheld order stands in the record with its evidence");
  const given = [...seen.orders.values()].filter(
    (o) => o.withheld === "" && o.by === "policy" && dayOf(o.eventTime) < Math.max(changeDay, faultDay + FAULT.days),
  );
  print.holds(changeDay <= faultDay + FAULT.days || given.length === 0, "no run was ordered before the change");
}

export function changedWorld({ print, seen, options }: World): void {
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
  const promoted = rolloutsIn(seen.rollouts).find((r) => drift.some((run) => run.id === r.run));
  if (promoted !== undefined) print.line(`rollout: ${numbersText(promoted)}`);
  print.holds(
    promoted?.stage === RolloutStage.PROMOTED,
    "its challenger was promoted on paired evidence and kept after probation",
  );
  print.holds((promoted?.numbers["mean_gain"] ?? 0) > 0, "its mean gain in Brier is above 0");
  const hand = [...seen.runs.values()].find((r) => r.trigger === "hand");
  const judged = rolloutsIn(seen.rollouts).find((r) => r.run === hand?.id);
  if (judged !== undefined) print.line(`the run by hand: ${judged.reason}; ${numbersText(judged)}`);
  print.holds(
    judged?.stage === RolloutStage.REJECTED,
    "the run ordered by hand afterwards is not better and is rejected",
  );
}

const rolloutsOf = (world: World): Rollout[] => rolloutsIn(world.seen.rollouts);
const rolloutsIn = (rollouts: Map<string, Rollout>): Rollout[] => [...rollouts.values()];
const numbersText = (r: Rollout): string =>
  Object.entries(r.numbers)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
    .join(", ");
