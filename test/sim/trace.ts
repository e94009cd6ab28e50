// What happened, as the checkers read it and as a person does. Owns the words of a trace and its lines.
import type { Guard } from "#kernel/store/ports.ts";

/** One key of a committed batch; values are decoded JSON, undefined where the key was or is absent. */
export type Change = { key: string; before: unknown; after: unknown };

export type TraceEvent =
  /** A committed batch: all of it at once. */
  | { kind: "write"; by: string; bucket: "state" | "drift"; guard: Guard | undefined; changes: Change[] }
  | { kind: "fenced"; by: string; keys: string[] }
  | { kind: "process"; name: string; what: string }
  | { kind: "published"; by: string; log: string; subject: string; id: string; seq: number }
  /** Somebody outside was told yes. */
  | { kind: "promised"; what: "model" | "deployment" | "release" | "order"; id: string }
  | { kind: "agent"; what: AgentDeed; id: string; number: number; says: string }
  /** At the end: what had to come out of the streams, and what came out. */
  | { kind: "account"; what: string; expected: number | string; found: number | string }
  /** A service ended that nobody had ended. */
  | { kind: "crash"; name: string; says: string }
  | { kind: "note"; says: string }
  | { kind: "faults-stopped" }
  /** The time within which everything had to end is over. */
  | { kind: "ended" };

/** `stopped`: it was told to, by a wanted set; `ended`: it is no more. */
export type AgentDeed =
  | "replica-started"
  | "replica-stopped"
  | "replica-ended"
  | "run-started"
  | "run-stopped"
  | "run-ended";

export type Stamped = { atMs: number; event: TraceEvent };

/** Collects events; each listener sees each event at once. */
export class Trace {
  readonly events: Stamped[] = [];
  readonly #now: () => number;
  readonly #listeners: ((stamped: Stamped) => void)[] = [];
  readonly #startMs: number;

  constructor(now: () => number) {
    this.#now = now;
    this.#startMs = now();
  }

  add(event: TraceEvent): void {
    const stamped = { atMs: this.#now() - this.#startMs, event };
    this.events.push(stamped);
    for (const listener of this.#listeners) listener(stamped);
  }

  listen(listener: (stamped: Stamped) => void): void {
    this.#listeners.push(listener);
  }
}

/** Lines for a person; none for what only checkers care about. */
export function linesOf({ atMs, event }: Stamped): string[] {
  const at = `${(atMs / 1000).toFixed(3).padStart(9)}s `;
  switch (event.kind) {
    case "write":
      return event.changes.flatMap((change) => changeLine(change).map((says) => `${at}${event.by.padEnd(7)} ${says}`));
    case "fenced":
      return [`${at}${event.by.padEnd(7)} FENCED at ${event.keys.join(", ")}`];
    case "process":
      return [`${at}${event.name.padEnd(7)} *** ${event.what}`];
    case "promised":
      return [`${at}client  was promised ${event.what} ${event.id}`];
    case "agent":
      return [`${at}agent   ${event.what} ${event.id} #${event.number} ${event.says}`];
    case "crash":
      return [`${at}${event.name.padEnd(7)} !!! ${event.says}`];
    case "note":
      return [`${at}        ${event.says}`];
    case "faults-stopped":
      return [`${at}        --- no more faults from here on`];
    case "ended":
      return [`${at}        --- the time to end is over`];
    case "published":
      return [];
    case "account":
      return [`${at}        ${event.what}: ${event.found} of ${event.expected}`];
  }
}

function changeLine({ key, before, after }: Change): string[] {
  if (key.startsWith("lease.")) return [];
  if (after === undefined) return [`${key}: deleted`];
  const was = before === undefined ? undefined : brief(key, before);
  const is = brief(key, after);
  if (was === is) return [];
  return [was === undefined ? `${key}: ${is}` : `${key}: ${was} -> ${is}`];
}

/** The part of a value that a person follows. */
function brief(key: string, value: unknown): string {
  const at = (field: string): string => wordOf(fieldOf(value, field));
  if (key.endsWith(".status")) return `${at("state")} v${at("version")} (${at("reason")})`;
  if (key.startsWith("workload."))
    return `${at("phase")} x${at("replicas")} generation ${at("generation")} (${at("reason")})`;
  if (key.startsWith("replica.")) return `${at("phase")} boot ${at("boot")} on ${at("node")} (${at("reason")})`;
  if (key.startsWith("run."))
    return `${at("phase")} attempt ${at("attempt")} version ${at("version")} (${at("reason")})`;
  if (key.startsWith("rollout."))
    return `${at("stage")} ${at("champion")} against ${at("challenger")} (${at("reason")})`;
  if (key.startsWith("alias.")) return `version ${at("version")} (${at("reason")})`;
  if (key.startsWith("route.")) return `arms ${at("arms")} shadow ${at("shadow")}`;
  if (key.startsWith("order.")) return `${at("kind")} by ${at("by")} ${at("withheld")}(${at("reason")})`;
  if (key.startsWith("term.")) return `term ${at("term")} of ${at("holder")}`;
  if (key.startsWith("track.")) return `ordinal ${at("ordinal")} frozen ${at("frozen")} orders ${at("ordersMs")}`;
  if (key.startsWith("episode."))
    return `${at("state")} ${at("closedAs")} ${at("class")} retrain ${at("retrain")} ${at("withheld")}`;
  if (key.startsWith("evidence."))
    return `${at("decision")} in ${at("stage")} after ${at("blocks")}+${at("probationBlocks")} blocks`;
  if (key.startsWith("verdict.")) return `${at("state")} of version ${at("champion")}`;
  if (key.startsWith("snap.") || key.startsWith("join.")) return "kept";
  if (key.startsWith("node.")) return `alive ${at("alive")}`;
  return "written";
}

export function fieldOf(value: unknown, field: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[field] : undefined;
}

function wordOf(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "");
}
