// What somebody was told yes to is never forgotten, and ends when the faults have ended.
// Q1 An acknowledged deployment keeps its keys and never expires; only a written release ends it.
// Q2 ENDS_MS after the faults, or after its own beginning, every run, rollout and release has ended (a run may wait for another of its track);
//    every other acknowledged deployment serves or says what it waits for.
import type { DeploymentStatus, OrderState, RolloutState, RunState } from "#kernel/domain/state.ts";
import { fieldOf, type TraceEvent } from "../trace.ts";
import type { Check, Checker } from "./checker.ts";

export const promises: Checker = {
  name: "promises",
  promises: "no acknowledged request is lost",
  begin: () => {
    const held = new Set<string>();
    const state = new Map<string, unknown>();
    return (event) => {
      if (event.kind === "promised") return promised(event, state, held);
      if (event.kind !== "write") return [];
      return event.changes.flatMap(({ key, after }) => {
        if (after === undefined) state.delete(key);
        else state.set(key, after);
        return brokenBy(key, after, state, held);
      });
    };
  },
};

function promised(
  event: Extract<TraceEvent, { kind: "promised" }>,
  state: ReadonlyMap<string, unknown>,
  held: Set<string>,
): string[] {
  const keys: Record<typeof event.what, string[]> = {
    model: [`model.${event.id}`],
    deployment: [`dep.${event.id}.spec`, `dep.${event.id}.ack`],
    release: [`dep.${event.id}.end`],
    order: [`order.${event.id}`],
  };
  for (const key of keys[event.what]) held.add(key);
  return keys[event.what]
    .filter((key) => !state.has(key) || isExpiry(state.get(key)))
    .map((key) => `${event.what} ${event.id} was promised and ${key} is not there`);
}

function brokenBy(
  key: string,
  after: unknown,
  state: ReadonlyMap<string, unknown>,
  held: ReadonlySet<string>,
): string[] {
  if (after === undefined && held.has(key)) return [`${key} was promised and is forgotten`];
  const id = /^dep\.(.*)\.status$/.exec(key)?.[1];
  if (id === undefined || !held.has(`dep.${id}.ack`)) return [];
  const status = after as DeploymentStatus | undefined;
  if (status === undefined || status.state === "Expired")
    return [`deployment ${id} was acknowledged and is ${status?.state ?? "forgotten"}`];
  const released = status.state === "Releasing" || status.state === "Released";
  return released && !state.has(`dep.${id}.end`) ? [`deployment ${id} is ${status.state} and nobody released it`] : [];
}

/** States in which a deployment may rest when all is quiet. */
const RESTING = ["Ready", "Pending"];

/** Virtual time within which what was begun ends: shadow and probation take at most 16 days of event time, 12 s each. */
export const ENDS_MS = 210_000;
const OVER = ["Promoted", "Rejected", "RolledBack", "Succeeded", "Failed", "Cancelled"];

export const endings: Checker = {
  name: "endings",
  promises: "every order ends once faults have stopped",
  begin: () => {
    const state = new Map<string, unknown>();
    const begunMs = new Map<string, number>();
    const check: Check = (event, atMs) => {
      if (event.kind === "write")
        for (const { key, after } of event.changes) {
          if (!begunMs.has(key)) begunMs.set(key, atMs);
          if (after === undefined) state.delete(key);
          else state.set(key, after);
        }
      if (event.kind !== "ended") return [];
      const due = [...state].filter(([key]) => (begunMs.get(key) ?? 0) <= atMs - ENDS_MS);
      return due.flatMap(([key, value]) => unfinished(key, value, state));
    };
    return check;
  },
};

function unfinished(key: string, value: unknown, state: ReadonlyMap<string, unknown>): string[] {
  if (key.startsWith("run.")) {
    const { phase, reason } = value as RunState;
    return OVER.includes(phase) || waits(value as RunState, state) ? [] : [`${key} is still ${phase} (${reason})`];
  }
  if (key.startsWith("rollout.")) {
    const { stage, reason } = value as RolloutState;
    return OVER.includes(stage) ? [] : [`${key} is still ${stage} (${reason})`];
  }
  if (key.startsWith("order.")) return unfinishedOrder(key, value as OrderState, state);
  const id = /^dep\.(.*)\.ack$/.exec(key)?.[1];
  if (id === undefined || isExpiry(value)) return [];
  const status = state.get(`dep.${id}.status`) as DeploymentStatus | undefined;
  if (state.has(`dep.${id}.end`))
    return status?.state === "Released"
      ? []
      : [`deployment ${id} was released and is still ${status?.state ?? "unknown"}`];
  if (status !== undefined && RESTING.includes(status.state) && (status.state === "Ready" || status.reason !== ""))
    return [];
  return [`deployment ${id} was acknowledged and is ${status?.state ?? "unknown"} (${status?.reason ?? ""})`];
}

/** An offer that expired has this in place of its acknowledgement. */
const isExpiry = (value: unknown): boolean => fieldOf(value, "expired") === true;

/** Whether something else of the run's track is under way. */
function waits({ id, model, scope, phase }: RunState, state: ReadonlyMap<string, unknown>): boolean {
  if (phase !== "Pending") return false;
  return [...state].some(([key, value]) => {
    if (key === `run.${id}` || !/^(run|rollout)\./.test(key)) return false;
    const other = value as RunState | RolloutState;
    const at = "stage" in other ? other.stage : other.phase;
    return other.model === model && other.scope === scope && at !== "Pending" && !OVER.includes(at);
  });
}

function unfinishedOrder(key: string, order: OrderState, state: ReadonlyMap<string, unknown>): string[] {
  if (order.withheld !== "" || order.kind !== "retrain") return [];
  const run = [...state].some(([k, value]) => k.startsWith("run.") && (value as RunState).order === order.id);
  return run ? [] : [`${key} was given and no run came of it`];
}
