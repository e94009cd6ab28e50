// Nothing is carried out twice in effect.
// N1 One run per order, one version per run, one rollout per run. N2 A boot number is given out once; a version is written once.
// N3 The agent starts each (replica, boot) and each (run, attempt) once, and no two attempts of a run at the same time.
import type { OrderState, ReplicaState, RolloutState, RunState, VersionState } from "#kernel/domain/state.ts";
import type { TraceEvent } from "../trace.ts";
import type { Checker, KeyChange } from "./checker.ts";

export const once: Checker = {
  name: "once",
  promises: "nothing is carried out twice in effect",
  begin: () => {
    const seen: Seen = { owners: new Map(), started: new Set(), running: new Map() };
    return (event) => {
      if (event.kind === "agent") return started(event, seen);
      if (event.kind !== "write") return [];
      return event.changes.flatMap((change) => created({ ...change, by: event.by, bucket: event.bucket }, seen));
    };
  },
};

type Seen = {
  /** What may have one owner only, and its owner. */
  owners: Map<string, string>;
  started: Set<string>;
  /** Attempts that run now, by run. */
  running: Map<string, number>;
};

function created({ key, before, after, by }: KeyChange, seen: Seen): string[] {
  if (after === undefined) return [];
  if (before !== undefined) return rewritten(key, before, after, by);
  const own = (thing: string): string[] => {
    const owner = seen.owners.get(thing);
    if (owner !== undefined && owner !== key) return [`${thing} has ${owner}, and ${by} made ${key} for it too`];
    seen.owners.set(thing, key);
    return [];
  };
  if (key.startsWith("run.")) {
    const { order } = after as RunState;
    return order === "" ? [] : own(`order ${order}`);
  }
  if (key.startsWith("version.")) {
    const { origin } = after as VersionState;
    return origin.kind === "run" ? own(`the version of run ${origin.run}`) : [];
  }
  if (key.startsWith("rollout.")) {
    const { run } = after as RolloutState;
    return run === "" ? [] : own(`the rollout of run ${run}`);
  }
  if (key.startsWith("replica.")) return own(`boot ${(after as ReplicaState).boot}`);
  return [];
}

/** Keys that are written once, and fields that never change. */
function rewritten(key: string, before: unknown, after: unknown, by: string): string[] {
  const once = /^(version\.|dep\..*\.(spec|ack|end)$)/.test(key);
  if (once) return [`${by} wrote ${key} a second time`];
  if (key.startsWith("run.")) {
    const [was, is] = [before as RunState, after as RunState];
    if (was.version !== 0 && was.version !== is.version)
      return [`${key} had version ${was.version} and now ${is.version}`];
    if (is.attempt < was.attempt) return [`${key} went back from attempt ${was.attempt} to ${is.attempt}`];
  }
  if (key.startsWith("replica.") && (before as ReplicaState).boot !== (after as ReplicaState).boot)
    return [`${key} changed its boot`];
  if (key.startsWith("order.") && (before as OrderState).withheld !== (after as OrderState).withheld)
    return [`${key} was decided twice`];
  return [];
}

function started(event: Extract<TraceEvent, { kind: "agent" }>, seen: Seen): string[] {
  const { what, id, number } = event;
  const name = `${id} #${number}`;
  if (what === "run-ended" && seen.running.get(id) === number) seen.running.delete(id);
  if (!what.endsWith("-started")) return [];
  const twice = seen.started.has(name) ? [`${name} was started twice`] : [];
  seen.started.add(name);
  if (what !== "run-started") return twice;
  const other = seen.running.get(id);
  seen.running.set(id, number);
  return other === undefined ? twice : [...twice, `${name} was started while attempt ${other} of it still ran`];
}
