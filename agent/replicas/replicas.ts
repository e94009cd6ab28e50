// The replicas that are wanted, and what became of each start.
// R1 One start per (id, boot), ever: a mark on disk outlives the agent, so a boot whose process is gone is lost, never started again.
// R2 A replica that ends with code 0 is gone, every other end is a loss. Both stay reported until they are wanted no more.
import { join } from "node:path";
import type { Clock } from "#kernel/base/clock.ts";
import { messageOf } from "#kernel/fault/error.ts";
import type { Logger } from "#kernel/process/log.ts";
import { type Child, exitSentence, type Lifelines, signalGroup, startChild } from "../children/door.ts";
import { Places, type Start } from "./places.ts";

// A small young generation: 250 MiB under load instead of 330, at the same rate (measured with the flights' model).
const SIDECAR_FLAGS = ["--max-semi-space-size=4"];

const DRAIN_MS = 10_000;
const KILL_MS = DRAIN_MS + 3_000;

/** A replica as it is wanted. `replica` is the spec in the sidecar's own form (protobuf JSON). */
export type Wanted = Start & { strict: boolean; replica: string; draining: boolean };
/** A replica as it is seen. */
export type Seen = {
  id: string;
  boot: number;
  phase: "starting" | "ready" | "draining" | "gone" | "lost";
  address: string;
  reason: string;
  lastNumber: bigint;
};

export type ReplicasOptions = {
  clock: Clock;
  log: Logger;
  lifelines: Lifelines;
  /** Folder of all nodes; a replica works in `<nodes>/<node>/replicas/<id>`. */
  nodes: string;
  logs: string;
  entry: string;
  cwd: string;
  /** Environment of every sidecar. */
  env: Readonly<Record<string, string>>;
  /** Called before the first strict replica of a node starts: its joiner must run. */
  strictNode: (node: string) => void;
  changed: () => void;
};

type Replica = {
  wanted: Wanted;
  child: Child | undefined;
  leaving: boolean;
  /** The last thing it said of itself. */
  last: { phase: "starting" | "ready" | "draining"; address: string; reason: string; lastNumber: bigint };
  /** Writes of its last number, in order. */
  noting: Promise<void>;
  end: { phase: "gone" | "lost"; reason: string } | undefined;
  living: Promise<void>;
};

export class Replicas {
  readonly #options: ReplicasOptions;
  readonly #replicas = new Map<string, Replica>();
  readonly #places: Places;
  #pruned: Promise<void> | undefined;
  #closed = false;

  constructor(options: ReplicasOptions) {
    this.#options = options;
    this.#places = new Places(options.nodes);
  }

  /** The whole wanted set: what is new is started, what is draining or missing is told to leave. */
  apply(wanted: readonly Wanted[]): void {
    if (this.#closed) return;
    this.#pruned ??= this.#places.prune(wanted);
    const keys = new Set(wanted.map(keyOf));
    for (const [key, replica] of this.#replicas) {
      if (keys.has(key)) continue;
      if (replica.end === undefined) this.#leave(replica);
      else this.#forget(key, replica);
    }
    for (const one of wanted) {
      const known = this.#replicas.get(keyOf(one));
      if (known === undefined) this.#begin(one);
      else if (one.draining) this.#leave(known);
    }
    this.#options.changed();
  }

  seen(): Seen[] {
    return [...this.#replicas.values()].map((replica) => this.#see(replica));
  }

  /** Replicas that have a process, as `driftmesh status` shows them. */
  views(): { name: string; state: string; address: string; pid: number; log: string; restarts: number }[] {
    return [...this.#replicas.values()].flatMap((replica) => {
      if (replica.child === undefined || replica.end !== undefined) return [];
      const { phase, address } = this.#see(replica);
      const log = join(this.#options.logs, `replica-${replica.wanted.id}.log`);
      return [{ name: nameOf(replica.wanted), state: phase, address, pid: replica.child.mark.pid, log, restarts: 0 }];
    });
  }

  children(): Child[] {
    return [...this.#replicas.values()].flatMap(({ child, end }) => (child && end === undefined ? [child] : []));
  }

  /** Ends all of them; resolves when they are gone. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const replica of this.#replicas.values()) this.#leave(replica);
    await Promise.all([...this.#replicas.values()].map(({ living }) => living));
  }

  #see(replica: Replica): Seen {
    const { wanted, child, end, leaving, last } = replica;
    const { id, boot } = wanted;
    if (end !== undefined) return { id, boot, ...last, ...end };
    const held = this.#options.lifelines.of(nameOf(wanted));
    // A line that breaks for a moment takes nothing back: the last word holds.
    if (held !== undefined && held.pid === child?.mark.pid) {
      const { state, address, reason, lastNumber } = held;
      if (lastNumber > last.lastNumber) this.#note(replica, lastNumber);
      replica.last = { phase: phaseOf(state), address, reason, lastNumber };
    }
    return { id, boot, ...replica.last, ...(leaving ? { phase: "draining" } : {}) };
  }

  #note(replica: Replica, lastNumber: bigint): void {
    replica.noting = replica.noting
      .then(() => this.#places.note(replica.wanted, lastNumber))
      .catch((error: unknown) => this.#options.log.warn("replica.note-failed", { replica: replica.wanted.id, error }));
  }

  #begin(wanted: Wanted): void {
    const replica: Replica = {
      wanted,
      child: undefined,
      leaving: false,
      last: { phase: "starting", address: "", reason: "", lastNumber: 0n },
      end: undefined,
      noting: Promise.resolve(),
      living: Promise.resolve(),
    };
    this.#replicas.set(keyOf(wanted), replica);
    replica.living = this.#live(replica).catch((thrown: unknown) => {
      this.#options.log.error("replica.failed", { replica: wanted.id, error: thrown });
      this.#end(replica, "lost", `could not be started: ${messageOf(thrown)}`);
    });
  }

  async #live(replica: Replica): Promise<void> {
    const { wanted } = replica;
    await this.#pruned;
    const earlier = await this.#places.begin(wanted);
    if (earlier !== undefined) {
      replica.last.lastNumber = earlier;
      return this.#end(replica, "lost", "its agent was restarted");
    }
    const inUse = new Set(
      [...this.#replicas.values()].flatMap(({ end, wanted: { id } }) => (end === undefined ? [id] : [])),
    );
    const inherited = await this.#places.inherit(wanted, inUse);
    if (wanted.strict) this.#options.strictNode(wanted.node);
    const child = await this.#start(wanted);
    replica.child = child;
    const { log, changed } = this.#options;
    log.info("replica.started", { replica: wanted.id, boot: wanted.boot, pid: child.mark.pid, inherited });
    changed();
    if (replica.leaving) this.#tellToLeave(child);
    // What it says last arrives just before it ends: looking at each change keeps the newest.
    const watching = new AbortController();
    void this.#watch(replica, this.#options.lifelines, watching.signal);
    const exit = await child.exit;
    this.#see(replica);
    watching.abort();
    await replica.noting;
    const { reason } = replica.last;
    if (exit.code === 0) this.#end(replica, "gone", reason);
    else this.#end(replica, "lost", reasonOf(reason, exitSentence(exit)));
  }

  async #start(wanted: Wanted): Promise<Child> {
    const { logs, entry, cwd, env } = this.#options;
    const name = nameOf(wanted);
    const own = {
      DRIFTMESH_CHILD: name,
      DRIFTMESH_REPLICA: wanted.replica,
      DRIFTMESH_WORK: this.#places.work(wanted),
    };
    const log = join(logs, `replica-${wanted.id}.log`);
    return await startChild({ name, entry, flags: SIDECAR_FLAGS, cwd, env: { ...env, ...own }, log });
  }

  #end(replica: Replica, phase: "gone" | "lost", reason: string): void {
    replica.end = { phase, reason };
    const { id, boot } = replica.wanted;
    this.#options.log.info("replica.ended", { replica: id, boot, phase, reason });
    this.#options.changed();
  }

  async #watch(replica: Replica, { changes }: Lifelines, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { version } = changes.get();
      this.#see(replica);
      await changes.changed(version, signal);
    }
  }

  #leave(replica: Replica): void {
    if (replica.leaving || replica.end !== undefined) return;
    replica.leaving = true;
    if (replica.child !== undefined) this.#tellToLeave(replica.child);
  }

  #tellToLeave(child: Child): void {
    if (!this.#options.lifelines.drain(child.name, DRAIN_MS)) signalGroup(child.mark.pid, "SIGTERM");
    void child.endWithin(KILL_MS, this.#options.clock);
    this.#options.changed();
  }

  #forget(key: string, { wanted }: Replica): void {
    this.#replicas.delete(key);
    void this.#places
      .forget(wanted)
      .catch((error: unknown) => this.#options.log.warn("replica.forget-failed", { replica: wanted.id, error }));
  }
}

const keyOf = ({ id, boot }: { id: string; boot: number }): string => `${id}.${boot}`;
const nameOf = (wanted: Wanted): string => `replica/${wanted.id}`;
const phaseOf = (state: string): "starting" | "ready" | "draining" =>
  state === "ready" || state === "draining" ? state : "starting";
const reasonOf = (said: string, exit: string): string =>
  said === "" ? `the sidecar ${exit}` : `${said} (the sidecar ${exit})`;
