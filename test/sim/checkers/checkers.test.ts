import { expect, it } from "vitest";
import type { Guard } from "#kernel/store/ports.ts";
import type { Change, Stamped, TraceEvent } from "../trace.ts";
import { CHECKERS } from "./all.ts";
import { watchWith } from "./checker.ts";
import { ENDS_MS } from "./promises.ts";

const GUARD: Guard = { key: "term.leader", revision: 2 };
const MODEL = { model: "m", scope: "open" };

/** A short history in which nothing is wrong: keys change as in a life of the mesh. */
function history(): TraceEvent[] {
  const values = new Map<string, unknown>();
  const events: TraceEvent[] = [];
  const write = (by: string, guard: Guard | undefined, next: Record<string, unknown>): void => {
    const changes = Object.entries(next).map(([key, after]): Change => {
      const before = values.get(key);
      values.set(key, after);
      return { key, before, after };
    });
    events.push({ kind: "write", by, bucket: "state", guard, changes });
  };
  const lead = (next: Record<string, unknown>): void => write("cp-1", GUARD, next);
  write("cp-1", undefined, { "lease.leader": { holder: "cp-1", term: 1 }, "term.leader": { holder: "cp-1", term: 1 } });
  write("cp-2", undefined, { "model.m": { description: {} } });
  events.push({ kind: "promised", what: "model", id: "m" });
  const run = { ...MODEL, id: "run_a", order: "ord_a", phase: "Pending", attempt: 1, version: 0, reason: "" };
  lead({ "order.ord_a": { id: "ord_a", kind: "retrain", withheld: "", ...MODEL }, "run.run_a": run });
  events.push({ kind: "promised", what: "order", id: "ord_a" });
  lead({ "run.run_a": { ...run, phase: "Running" } });
  events.push({ kind: "agent", what: "run-started", id: "run_a", number: 1, says: "" });
  lead({ "run.run_a": { ...run, phase: "Checking" } });
  events.push({ kind: "agent", what: "run-ended", id: "run_a", number: 1, says: "succeeded" });
  const rollout = { ...MODEL, id: "rol_a", run: "run_a", champion: 1, challenger: 2, stage: "Preparing", reason: "" };
  lead({
    "alias.m.open.champion": { version: 1 },
    "version.m.1": { version: 1, origin: { kind: "upload" } },
    "version.m.2": { version: 2, origin: { kind: "run", run: "run_a" } },
    "rollout.rol_a": rollout,
    "run.run_a": { ...run, phase: "Succeeded", version: 2 },
  });
  write("cp-2", undefined, { "dep.dep_a.spec": { id: "dep_a" } });
  lead({ "dep.dep_a.status": { state: "Offered", reason: "" } });
  write("cp-2", undefined, { "dep.dep_a.ack": { principal: "p" } });
  events.push({ kind: "promised", what: "deployment", id: "dep_a" });
  lead({ "dep.dep_a.status": { state: "Pending", reason: "queue" } });
  lead({
    "dep.dep_a.status": { state: "Starting", reason: "" },
    "workload.w": { id: "w", phase: "Starting", replicas: 1 },
    "replica.a": { id: "a", workload: "w", boot: 1, phase: "Wanted" },
  });
  events.push({ kind: "agent", what: "replica-started", id: "a", number: 1, says: "" });
  lead({ "replica.a": { id: "a", workload: "w", boot: 1, phase: "Starting" } });
  lead({
    "replica.a": { id: "a", workload: "w", boot: 1, phase: "Ready" },
    "dep.dep_a.status": { state: "Ready", reason: "" },
  });
  lead({ "rollout.rol_a": { ...rollout, stage: "Shadow" } });
  const shadow = { version: 2, rate: 1, rollout: "rol_a" };
  lead({ "route.m.open": { ...MODEL, arms: [{ version: 1, weight: 100 }], shadow } });
  lead({ "rollout.rol_a": { ...rollout, stage: "Probation" }, "alias.m.open.champion": { version: 2 } });
  lead({
    "rollout.rol_a": { ...rollout, stage: "Promoted" },
    "route.m.open": { ...MODEL, arms: [{ version: 2, weight: 100 }], shadow: null },
  });
  events.push({ kind: "faults-stopped" }, { kind: "ended" });
  return events;
}

function findings(events: readonly TraceEvent[]): string[] {
  const { see, broken } = watchWith(CHECKERS);
  events.forEach((event, i) => see({ atMs: event.kind === "ended" ? i + ENDS_MS : i, event } satisfies Stamped));
  return broken.map(({ checker, says }) => `${checker}: ${says}`);
}

it("finds nothing in a history in which nothing is wrong", () => {
  expect(findings(history())).toEqual([]);
});

type Plant = { name: string; checker: string; plant: (events: TraceEvent[]) => TraceEvent[] };

/** Rewrites the value of a key wherever `when` holds. */
const rewritten =
  (key: string, when: (value: Record<string, unknown>) => boolean, patch: Record<string, unknown>) =>
  (events: TraceEvent[]): TraceEvent[] =>
    events.map((event) => {
      if (event.kind !== "write") return event;
      const changes = event.changes.map((change) => {
        const after = change.after as Record<string, unknown> | undefined;
        return change.key === key && after !== undefined && when(after)
          ? { ...change, after: { ...after, ...patch } }
          : change;
      });
      return { ...event, changes };
    });
const appended =
  (...more: TraceEvent[]) =>
  (events: TraceEvent[]): TraceEvent[] => [...events.slice(0, -1), ...more, ...events.slice(-1)];
const wrote = (by: string, change: Change, guard: Guard | undefined = GUARD): TraceEvent => ({
  kind: "write",
  by,
  bucket: "state",
  guard,
  changes: [change],
});
const without =
  (drop: (event: TraceEvent) => boolean) =>
  (events: TraceEvent[]): TraceEvent[] =>
    events.filter((event) => !drop(event));
const writes = (event: TraceEvent, key: string): boolean =>
  event.kind === "write" && event.changes.some((change) => change.key === key);

const PLANTS: readonly Plant[] = [
  {
    name: "a replica that goes from Wanted to Ready",
    checker: "arrows",
    plant: appended(
      wrote("cp-1", { key: "replica.a", before: { phase: "Wanted", boot: 1 }, after: { phase: "Ready", boot: 1 } }),
    ),
  },
  {
    name: "a run that begins as Running",
    checker: "arrows",
    plant: rewritten("run.run_a", ({ phase }) => phase === "Pending", { phase: "Running" }),
  },
  {
    name: "a replica key deleted while Ready",
    checker: "arrows",
    plant: appended(wrote("cp-1", { key: "replica.a", before: { phase: "Ready", boot: 1 }, after: undefined })),
  },
  {
    name: "an acknowledged deployment that expires",
    checker: "promises",
    plant: appended(
      wrote("cp-1", { key: "dep.dep_a.status", before: { state: "Offered" }, after: { state: "Expired", reason: "" } }),
    ),
  },
  {
    name: "an acknowledgement that vanishes",
    checker: "promises",
    plant: appended(wrote("cp-1", { key: "dep.dep_a.ack", before: {}, after: undefined })),
  },
  {
    name: "an acknowledgement that was never written",
    checker: "promises",
    plant: without((e) => writes(e, "dep.dep_a.ack")),
  },
  {
    name: "a release nobody asked for",
    checker: "promises",
    plant: appended(
      wrote("cp-1", { key: "dep.dep_a.status", before: { state: "Ready" }, after: { state: "Releasing", reason: "" } }),
    ),
  },
  {
    name: "a second run of one order",
    checker: "once",
    plant: appended(
      wrote("cp-1", {
        key: "run.run_b",
        before: undefined,
        after: { id: "run_b", order: "ord_a", phase: "Pending", attempt: 1, version: 0 },
      }),
    ),
  },
  {
    name: "a second version of one run",
    checker: "once",
    plant: appended(
      wrote("cp-1", {
        key: "version.m.3",
        before: undefined,
        after: { version: 3, origin: { kind: "run", run: "run_a" } },
      }),
    ),
  },
  {
    name: "a second rollout of one run",
    checker: "once",
    plant: appended(
      wrote("cp-1", { key: "rollout.rol_b", before: undefined, after: { ...MODEL, run: "run_a", stage: "Preparing" } }),
    ),
  },
  {
    name: "a boot given out twice",
    checker: "once",
    plant: appended(
      wrote("cp-1", {
        key: "replica.b",
        before: undefined,
        after: { id: "b", workload: "w", boot: 1, phase: "Wanted" },
      }),
    ),
  },
  {
    name: "a version that is changed",
    checker: "once",
    plant: appended(wrote("cp-1", { key: "version.m.2", before: { version: 2 }, after: { version: 2 } })),
  },
  {
    name: "an attempt started twice",
    checker: "once",
    plant: appended({ kind: "agent", what: "run-started", id: "run_a", number: 1, says: "" }),
  },
  {
    name: "a champion that moves without its rollout",
    checker: "champions",
    plant: appended(wrote("cp-1", { key: "alias.m.open.champion", before: { version: 2 }, after: { version: 1 } })),
  },
  {
    name: "two rollouts of a track under way",
    checker: "champions",
    plant: rewritten("rollout.rol_a", ({ stage }) => stage === "Promoted", { stage: "Probation" }),
  },
  {
    name: "weights that sum to 90",
    checker: "routes",
    plant: rewritten("route.m.open", () => true, { arms: [{ version: 1, weight: 90 }] }),
  },
  {
    name: "a route to a version nobody chose",
    checker: "routes",
    plant: rewritten("route.m.open", () => true, { arms: [{ version: 7, weight: 100 }] }),
  },
  {
    name: "a shadow after its rollout ended",
    checker: "routes",
    plant: rewritten("route.m.open", ({ shadow }) => shadow === null, {
      shadow: { version: 2, rate: 1, rollout: "rol_a" },
    }),
  },
  {
    name: "three replicas where one is wanted",
    checker: "surge",
    plant: appended(
      ...["b", "c"].map((id, i) =>
        wrote("cp-1", {
          key: `replica.${id}`,
          before: undefined,
          after: { id, workload: "w", boot: 2 + i, phase: "Wanted" },
        }),
      ),
    ),
  },
  {
    name: "a command without a guard",
    checker: "fenced",
    plant: appended({
      kind: "write",
      by: "cp-1",
      bucket: "state",
      guard: undefined,
      changes: [
        { key: "workload.w", before: { phase: "Starting" }, after: { id: "w", phase: "Serving", replicas: 1 } },
      ],
    }),
  },
  {
    name: "a command of an instance that does not lead",
    checker: "fenced",
    plant: appended(
      wrote("cp-2", {
        key: "workload.w",
        before: { phase: "Starting" },
        after: { id: "w", phase: "Serving", replicas: 1 },
      }),
    ),
  },
  {
    name: "a replica sent away while Ready",
    checker: "absence",
    plant: appended({ kind: "agent", what: "replica-stopped", id: "a", number: 1, says: "" }),
  },
  {
    name: "a route written in circles",
    checker: "calm",
    plant: appended(
      ...Array.from({ length: 100 }, () =>
        wrote("cp-1", { key: "node.n", before: { alive: true }, after: { alive: true } }),
      ),
    ),
  },
  {
    name: "a row counted twice",
    checker: "accounts",
    plant: appended({ kind: "account", what: "rows", expected: 40, found: 41 }),
  },
  {
    name: "a run that never ends",
    checker: "endings",
    plant: rewritten("run.run_a", ({ phase }) => phase === "Succeeded", { phase: "Checking" }),
  },
  {
    name: "an order of which nothing came",
    checker: "endings",
    plant: rewritten("run.run_a", () => true, { order: "ord_z" }),
  },
  {
    name: "an acknowledged deployment that never gets ready",
    checker: "endings",
    plant: rewritten("dep.dep_a.status", ({ state }) => state === "Ready", { state: "Starting" }),
  },
  {
    name: "a rollout that never ends",
    checker: "endings",
    plant: rewritten("rollout.rol_a", ({ stage }) => stage === "Promoted", { stage: "Probation" }),
  },
];

/** Two rollouts need a second one to begin. */
const SECOND = wrote("cp-1", {
  key: "rollout.rol_b",
  before: undefined,
  after: { ...MODEL, run: "run_b", champion: 2, challenger: 3, stage: "Preparing" },
});

it.each(PLANTS)("bites on $name", ({ name, checker, plant }) => {
  const events = plant(history());
  const found = findings(name.startsWith("two rollouts") ? appended(SECOND)(events) : events);
  expect(found.some((says) => says.startsWith(`${checker}: `))).toBe(true);
});

it("has a plant for every checker", () => {
  expect(new Set(PLANTS.map(({ checker }) => checker))).toEqual(new Set(CHECKERS.map(({ name }) => name)));
});
