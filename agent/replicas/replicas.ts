// The replicas that are wanted, and what became of each start.
// R1 One start per (id, boot), ever: a mark on disk outlives the agent, so a boot whose process is gone is lost, never started again.
// R2 A replica that ends on its own is lost; one that was told to leave is gone. Both stay reported until they are wanted no more.
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "#kernel/base/clock.ts";
import { messageOf } from "#kernel/fault/error.ts";
import type { Logger } from "#kernel/process/log.ts";
import { type Child, exitSentence, type Lifelines, signalGroup, startChild } from "../children/door.ts";

const DRAIN_MS = 10_000;
const KILL_MS = DRAIN_MS + 3_000;

/** A replica as it is wanted. `replica` is the spec in the sidecar's own form (protobuf JSON). */
export type Wanted = { id: string; boot: number; node: string; strict: boolean; replica: string; draining: boolean };
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
  last: { address: string; reason: string; lastNumber: bigint };
  end: { phase: "gone" | "lost"; reason: string } | undefined;
  living: Promise<void>;
};

export class Replicas {
  readonly #options: ReplicasOptions;
  readonly #replicas = new Map<string, Replica>();
  #closed = false;

  constructor(options: ReplicasOptions) {
    this.#options = options;
  }

  /** The whole wanted set: what is new is started, what is draining or missing is told to leave. */
  apply(wanted: readonly Wanted[]): void {
    if (this.#closed) return;
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
    if (held !== undefined && held.pid === child?.mark.pid)
      replica.last = { address: held.address, reason: held.reason, lastNumber: held.lastNumber };
    const phase = leaving ? "draining" : held?.state === "ready" ? "ready" : "starting";
    return { id, boot, phase, ...replica.last };
  }

  #begin(wanted: Wanted): void {
    const last = { address: "", reason: "", lastNumber: 0n };
    const replica: Replica = {
      wanted,
      child: undefined,
      leaving: false,
      last,
      end: undefined,
      living: Promise.resolve(),
    };
    this.#replicas.set(keyOf(wanted), replica);
    replica.living = this.#live(replica).catch((thrown: unknown) => {
      replica.end = { phase: "lost", reason: `could not be started: ${messageOf(thrown)}` };
      this.#options.log.error("replica.failed", { replica: wanted.id, error: thrown });
      this.#options.changed();
    });
  }

  async #live(replica: Replica): Promise<void> {
    const { log, lifelines, logs, entry, cwd, env, strictNode, changed } = this.#options;
    const { wanted } = replica;
    const folder = join(this.#options.nodes, wanted.node);
    if (!(await markStart(join(folder, "boots"), wanted))) {
      replica.end = { phase: "lost", reason: "its agent was restarted" };
      return changed();
    }
    const work = join(folder, "replicas", wanted.id);
    await mkdir(work, { recursive: true, mode: 0o700 });
    if (wanted.strict) strictNode(wanted.node);
    const name = nameOf(wanted);
    const own = { DRIFTMESH_CHILD: name, DRIFTMESH_REPLICA: wanted.replica, DRIFTMESH_WORK: work };
    const path = join(logs, `replica-${wanted.id}.log`);
    const child = await startChild({ name, entry, cwd, env: { ...env, ...own }, log: path });
    replica.child = child;
    log.info("replica.started", { replica: wanted.id, boot: wanted.boot, pid: child.mark.pid });
    changed();
    if (replica.leaving) this.#tellToLeave(child);
    // What it says last arrives just before it ends: looking at each change keeps the newest.
    const watching = new AbortController();
    void this.#watch(replica, lifelines, watching.signal);
    const exit = await child.exit;
    this.#see(replica);
    watching.abort();
    const phase = replica.leaving || exit.code === 0 ? "gone" : "lost";
    replica.end = {
      phase,
      reason: phase === "gone" ? replica.last.reason : reasonOf(replica.last.reason, exitSentence(exit)),
    };
    log.info("replica.ended", { replica: wanted.id, boot: wanted.boot, phase, how: exitSentence(exit) });
    changed();
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
    void rm(join(this.#options.nodes, wanted.node, "boots", markName(wanted)), { force: true });
  }
}

const keyOf = ({ id, boot }: { id: string; boot: number }): string => `${id}.${boot}`;
const markName = keyOf;
const nameOf = (wanted: Wanted): string => `replica/${wanted.id}`;
const reasonOf = (said: string, exit: string): string =>
  said === "" ? `the sidecar ${exit}` : `${said} (the sidecar ${exit})`;

/** True for the first start of this (id, boot) on this machine (R1). */
async function markStart(folder: string, wanted: Wanted): Promise<boolean> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if ((await readdir(folder)).includes(markName(wanted))) return false;
  await writeFile(join(folder, markName(wanted)), "", { flag: "wx", mode: 0o600 });
  return true;
}
