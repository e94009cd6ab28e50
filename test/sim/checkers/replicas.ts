// No more runs than is wanted, and only leaders command.
// M1 When a replica is wanted, at most `replicas` others of its workload are active: one surge. M2 Keys of the leader are written under its guard,
// by the newest term.
import type { ReplicaState, WorkloadState } from "#kernel/domain/state.ts";
import { fieldOf } from "../trace.ts";
import { type Checker, onWrites } from "./checker.ts";

const ACTIVE = ["Wanted", "Starting", "Probing", "Ready"];

export const surge: Checker = {
  name: "surge",
  promises: "replicas are never more than wanted and one",
  begin: () => {
    const replicas = new Map<string, ReplicaState>();
    const workloads = new Map<string, WorkloadState>();
    return onWrites((changes) => {
      for (const { key, after } of changes) {
        if (key.startsWith("replica.")) {
          if (after === undefined) replicas.delete(key);
          else replicas.set(key, after as ReplicaState);
        }
        if (key.startsWith("workload.") && after !== undefined)
          workloads.set((after as WorkloadState).id, after as WorkloadState);
      }
      return changes.flatMap(({ key, before, after, by }) => {
        if (!key.startsWith("replica.") || before !== undefined || after === undefined) return [];
        const { workload } = after as ReplicaState;
        const wanted = workloads.get(workload)?.replicas;
        if (wanted === undefined) return [`${by} wanted ${key} for ${workload}, which is not there`];
        const active = [...replicas.values()].filter((r) => r.workload === workload && ACTIVE.includes(r.phase)).length;
        return active <= wanted + 1
          ? []
          : [`${by} wanted ${key}: ${workload} has ${active} replicas and wants ${wanted}`];
      });
    });
  },
};

/** Keys that only the leader of a bucket writes. */
const COMMANDS = {
  state: /^(workload|replica|route|run|rollout|alias|track|version|node|fact)\.|^dep\..*\.status$/,
  drift: /^(snap|join|verdict|episode|evidence|decision|cursor)\./,
};

export const fenced: Checker = {
  name: "fenced",
  promises: "only the leader of the newest term commands",
  begin: () => {
    const offices = { state: { term: 0, holder: "" }, drift: { term: 0, holder: "" } };
    return (event) => {
      if (event.kind !== "write") return [];
      const office = offices[event.bucket];
      for (const { key, after } of event.changes) {
        if (!key.startsWith("term.")) continue;
        const next = Number(fieldOf(after, "term"));
        if (next !== office.term + 1) return [`${key} goes from ${office.term} to ${next}`];
        Object.assign(office, { term: next, holder: event.by });
      }
      const led = event.changes.filter(
        ({ key, before }) => COMMANDS[event.bucket].test(key) && !begunByApi(key, before),
      );
      if (led.length === 0) return [];
      const keys = led.map(({ key }) => key).join(", ");
      if (event.guard === undefined) return [`${event.by} wrote ${keys} without a guard`];
      return event.by === office.holder
        ? []
        : [`${event.by} wrote ${keys} while ${office.holder} leads term ${office.term}`];
    };
  },
};

/** Instances that do not lead create these by a request's id; afterwards they are the leader's. */
function begunByApi(key: string, before: unknown): boolean {
  return before === undefined && /^(track|run|version|alias)\.|^dep\..*\.status$/.test(key);
}
