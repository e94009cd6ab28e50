// Absence is never an order: what stops was told to by a written state (DESIGN D4).
// B1 When the agent sends a replica away its record is Draining or ended. B2 When it stops an attempt its run has ended or gone on to another.
import type { ReplicaState, RunState } from "#kernel/domain/state.ts";
import type { Checker } from "./checker.ts";

export const absence: Checker = {
  name: "absence",
  promises: "only a written end stops something",
  begin: () => {
    const state = new Map<string, unknown>();
    return (event) => {
      if (event.kind === "write") for (const { key, after } of event.changes) state.set(key, after);
      if (event.kind !== "agent") return [];
      const { what, id, number } = event;
      if (what === "replica-stopped") {
        const phase = (state.get(`replica.${id}`) as ReplicaState | undefined)?.phase;
        const said = phase === undefined || ["Draining", "Gone", "Lost"].includes(phase);
        return said ? [] : [`the agent sent replica ${id} away, which is ${phase}`];
      }
      if (what !== "run-stopped") return [];
      const run = state.get(`run.${id}`) as RunState | undefined;
      const wanted =
        run !== undefined && run.attempt === number && (run.phase === "Running" || run.phase === "Checking");
      return wanted ? [`the agent stopped attempt ${number} of run ${id}, which is ${run.phase}`] : [];
    };
  },
};
