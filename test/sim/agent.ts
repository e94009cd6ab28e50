// The machine: an agent, its replicas and runs, as the control plane's backend sees them.
// A1 What is on its disk outlives the agent: which boots and attempts were begun, and the highest token. A2 A begun boot or attempt is never begun again.
// A3 Replicas outlive their agent by a minute, unseen and serving; runs do not. A4 A lower token is refused.
import type { VirtualClock } from "#kernel/base/clock.ts";
import { Cell } from "#kernel/base/queue.ts";
import type { Rand } from "#kernel/base/rand.ts";
import type { Token } from "#kernel/domain/state.ts";
import { MeshError } from "#kernel/fault/error.ts";
import {
  type Backend,
  MACHINE_LOST,
  type Observed,
  type ReplicaReport,
  type RunReport,
  type WantedReplica,
  type WantedRun,
  type WantedSet,
} from "../../control-plane/backend/backend.ts";
import { follow, type Seat } from "./store.ts";
import type { Trace } from "./trace.ts";

export type MachineOptions = {
  time: VirtualClock;
  rand: Rand;
  trace: Trace;
  nodes: Observed["nodes"];
  sabotage: { amnesia?: boolean; lossy?: boolean };
  /** Carries out one attempt: what it made, or why it failed. */
  train: (
    run: WantedRun,
  ) => Promise<
    Pick<RunReport, "artifactSha256" | "artifactBytes" | "profileSha256" | "metrics" | "load" | "logSha256"> | string
  >;
};

/** A process that serves, whether or not an agent knows of it. */
export type Serving = { wanted: WantedReplica; rows: number; panes: number; sinceMs: number };
type Replica = { wanted: WantedReplica; report: ReplicaReport; end: AbortController; serving: Serving | undefined };
type Run = { wanted: WantedRun; report: RunReport; end: AbortController };

const ORPHAN_MS = 60_000;

export class Machine {
  /** Chance per minute that a replica crashes; 0 once faults have stopped. */
  crash = 0;
  readonly serving = new Set<Serving>();
  readonly #options: MachineOptions;
  readonly #begun = new Set<string>();
  readonly #replicas = new Map<string, Replica>();
  readonly #runs = new Map<string, Run>();
  readonly #changes = new Cell(0);
  #token: Token = { epoch: 0, term: 0 };
  #boot = 0;
  #alive = true;
  #sinceMs: number;

  constructor(options: MachineOptions) {
    this.#options = options;
    this.#sinceMs = options.time.wallMs();
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Kills the agent (A3). */
  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#sinceMs = this.#options.time.wallMs();
    this.#options.trace.add({ kind: "process", name: "agent", what: "killed" });
    for (const [key, run] of this.#runs) this.#endRun(key, run);
    this.#runs.clear();
    for (const replica of this.#replicas.values()) {
      replica.end.abort();
      const { serving } = replica;
      if (serving === undefined) this.#ended(replica, "died with its agent");
      else
        void this.#options.time.sleep(ORPHAN_MS).then(() => this.#stopServing(replica, "its agent did not come back"));
    }
    this.#replicas.clear();
    this.#changed();
  }

  restart(): void {
    if (this.#alive) return;
    this.#alive = true;
    if (this.#options.sabotage.amnesia === true) this.#begun.clear();
    this.#boot += 1;
    this.#sinceMs = this.#options.time.wallMs();
    this.#options.trace.add({ kind: "process", name: "agent", what: "restarted" });
    this.#changed();
  }

  /** This machine as one control plane's backend. */
  backendFor({ process, network }: Seat): Backend {
    return {
      name: "simulated",
      apply: (wanted, token) => network.call(process, async () => this.#apply(wanted, token), { inOrder: true }),
      observe: (signal) => follow({ process, network }, signal, (end) => this.#observe({ process, network }, end)),
      refuses: () => undefined,
    };
  }

  #apply(wanted: WantedSet, token: Token): void {
    if (!this.#alive) throw new MeshError("DM-6001", "the agent does not answer");
    const { epoch, term } = this.#token;
    const { lossy } = this.#options.sabotage;
    if (token.epoch < epoch || (token.epoch === epoch && token.term < term))
      throw new MeshError("DM-2007", `token ${token.epoch}.${token.term} is lower than ${epoch}.${term}`);
    this.#token = token;
    const heard = lossy === true && this.#options.rand.next() < 0.1 ? wanted.replicas.slice(1) : wanted.replicas;
    const replicas = new Set(heard.map(replicaKey));
    for (const [key, replica] of this.#replicas) {
      if (replicas.has(key)) continue;
      if (ended(replica.report.phase)) this.#replicas.delete(key);
      else this.#drain(replica);
    }
    for (const one of heard) {
      const known = this.#replicas.get(replicaKey(one));
      if (known === undefined) this.#beginReplica(one);
      else if (one.draining) this.#drain(known);
    }
    const runs = new Set(wanted.runs.map(runKey));
    for (const [key, run] of this.#runs) {
      if (runs.has(key)) continue;
      const { id, attempt } = run.wanted;
      this.#options.trace.add({ kind: "agent", what: "run-stopped", id, number: attempt, says: run.report.phase });
      this.#endRun(key, run);
      this.#runs.delete(key);
    }
    for (const one of wanted.runs) if (!this.#runs.has(runKey(one))) this.#beginRun(one);
    this.#changed();
  }

  /** What a control plane sees: a cut, or a dead agent, is seen as silence since an instant. */
  async *#observe({ process, network }: Seat, signal: AbortSignal): AsyncGenerator<Observed> {
    const { time } = this.#options;
    let told: Observed | undefined;
    while (!signal.aborted) {
      const { version } = this.#changes.get();
      const cut = network.isCut(process.name);
      const now = cut ? told : this.#look();
      if (now !== undefined && (!cut || now.connected))
        yield (told = cut ? { ...now, connected: false, sinceMs: time.wallMs() } : now);
      const poll = new AbortController();
      await Promise.race([
        this.#changes.changed(version, AbortSignal.any([signal, poll.signal])),
        time.sleep(1_000, signal).catch(() => undefined),
      ]);
      poll.abort();
    }
  }

  #look(): Observed {
    const silent = !this.#alive;
    return {
      connected: this.#alive,
      sinceMs: this.#sinceMs,
      agentBoot: `agent-${this.#boot}`,
      nodes: this.#options.nodes,
      replicas: silent
        ? []
        : [...this.#replicas.values()].map(({ report, serving }) => ({
            ...report,
            lastNumber: serving?.rows ?? report.lastNumber,
          })),
      runs: silent ? [] : [...this.#runs.values()].map(({ report }) => ({ ...report })),
    };
  }

  #beginReplica(wanted: WantedReplica): void {
    const { id, boot } = wanted;
    const report: ReplicaReport = { id, boot, phase: "starting", address: "", reason: "", lastNumber: 0 };
    const replica: Replica = { wanted, report, end: new AbortController(), serving: undefined };
    const key = replicaKey(wanted);
    this.#replicas.set(key, replica);
    if (this.#begun.has(key)) {
      report.phase = "lost";
      report.reason = "its agent was restarted";
      return;
    }
    this.#begun.add(key);
    this.#options.trace.add({ kind: "agent", what: "replica-started", id, number: boot, says: `on ${wanted.node}` });
    void this.#live(replica).catch(() => undefined);
  }

  async #live(replica: Replica): Promise<void> {
    const { time, rand } = this.#options;
    const { report, end, wanted } = replica;
    await time.sleep(400 + rand.below(2_500), end.signal);
    if (this.crash > 0 && rand.next() < 0.1) return this.#lose(replica, "the model could not be loaded this time");
    report.phase = "ready";
    report.address = `127.0.0.1:${10_000 + wanted.boot}`;
    replica.serving = { wanted, rows: 0, panes: 0, sinceMs: time.wallMs() };
    this.serving.add(replica.serving);
    this.#changed();
    for (;;) {
      await time.sleep(60_000, end.signal);
      if (rand.next() < this.crash) return this.#lose(replica, "it crashed");
    }
  }

  #lose(replica: Replica, reason: string): void {
    replica.report.phase = "lost";
    replica.report.reason = reason;
    this.#stopServing(replica, reason);
    this.#changed();
  }

  #drain(replica: Replica): void {
    const { report, end } = replica;
    if (ended(report.phase) || report.phase === "draining") return;
    report.phase = "draining";
    end.abort();
    this.#options.trace.add({
      kind: "agent",
      what: "replica-stopped",
      id: report.id,
      number: report.boot,
      says: "told to leave",
    });
    const { time, rand } = this.#options;
    void time.sleep(200 + rand.below(2_000)).then(() => {
      report.phase = "gone";
      this.#stopServing(replica, "drained");
      this.#changed();
    });
  }

  #stopServing(replica: Replica, says: string): void {
    replica.report.lastNumber = replica.serving?.rows ?? 0;
    if (replica.serving !== undefined) this.serving.delete(replica.serving);
    replica.serving = undefined;
    this.#ended(replica, says);
  }

  #ended({ wanted: { id, boot } }: Replica, says: string): void {
    this.#options.trace.add({ kind: "agent", what: "replica-ended", id, number: boot, says });
  }

  #beginRun(wanted: WantedRun): void {
    const report: RunReport = {
      id: wanted.id,
      attempt: wanted.attempt,
      phase: "running",
      reason: "",
      artifactSha256: "",
      artifactBytes: 0,
      profileSha256: "",
      metrics: {},
      logSha256: "",
      load: undefined,
    };
    const key = runKey(wanted);
    const run: Run = { wanted, report, end: new AbortController() };
    this.#runs.set(key, run);
    if (this.#begun.has(key)) {
      report.phase = "failed";
      report.reason = `${MACHINE_LOST}: its agent ended while it ran`;
      return;
    }
    this.#begun.add(key);
    this.#options.trace.add({
      kind: "agent",
      what: "run-started",
      id: wanted.id,
      number: wanted.attempt,
      says: wanted.train ? "train" : "check",
    });
    void this.#execute(key, run).catch(() => undefined);
  }

  async #execute(key: string, run: Run): Promise<void> {
    const { time, rand, train } = this.#options;
    const { report, wanted, end } = run;
    await time.sleep(1_000 + rand.below(wanted.train ? 20_000 : 1_000), end.signal);
    report.phase = "checking";
    this.#changed();
    await time.sleep(200 + rand.below(2_000), end.signal);
    const made = await train(wanted);
    if (end.signal.aborted) return;
    if (typeof made === "string") {
      report.phase = "failed";
      report.reason = made;
    } else Object.assign(report, made, { phase: "succeeded" });
    this.#endRun(key, run);
    this.#changed();
  }

  #endRun(_key: string, { wanted, end, report }: Run): void {
    if (end.signal.aborted) return;
    end.abort();
    if (report.reason.startsWith(MACHINE_LOST)) return;
    const says = ended(report.phase) ? `${report.phase} ${report.reason}` : "killed";
    this.#options.trace.add({ kind: "agent", what: "run-ended", id: wanted.id, number: wanted.attempt, says });
  }

  #changed(): void {
    this.#changes.set(this.#changes.get().value + 1);
  }
}

const ended = (phase: string): boolean => ["gone", "lost", "failed", "succeeded"].includes(phase);
const replicaKey = ({ id, boot }: { id: string; boot: number }): string => `${id}.${boot}`;
const runKey = ({ id, attempt }: { id: string; attempt: number }): string => `${id}-${attempt}`;
