// A backend in memory: tests and simulations play the machines by hand.
import { Cell } from "#kernel/base/queue.ts";
import type { Resources } from "#kernel/domain/model.ts";
import type { Token } from "#kernel/domain/state.ts";
import { MeshError } from "#kernel/fault/error.ts";
import type { Backend, Observed, ReplicaReport, RunReport, WantedSet } from "./backend.ts";

const NOTHING: WantedSet = { replicas: [], runs: [], macKeys: [] };

export class MemoryBackend implements Backend {
  readonly name = "memory";
  /** The newest wanted set. */
  wanted: WantedSet = NOTHING;
  /** Called with each new wanted set, before `apply` resolves. */
  onApply: ((wanted: WantedSet) => void) | undefined;
  readonly #observed: Cell<Observed>;
  #token: Token = { epoch: 0, term: 0 };

  constructor(nodes: readonly { name: string; shares: Resources }[], nowMs = 0) {
    this.#observed = new Cell<Observed>({
      connected: true,
      sinceMs: nowMs,
      agentBoot: "a1",
      nodes,
      replicas: [],
      runs: [],
    });
  }

  apply(wanted: WantedSet, token: Token): Promise<void> {
    const older =
      token.epoch < this.#token.epoch || (token.epoch === this.#token.epoch && token.term < this.#token.term);
    if (older) return Promise.reject(new MeshError("DM-2007", "a newer leader has spoken"));
    this.#token = token;
    this.wanted = wanted;
    const { replicas, runs } = this.seen();
    const keptReplicas = replicas.filter(({ id }) => wanted.replicas.some((w) => w.id === id));
    const keptRuns = runs.filter(({ id, attempt }) => wanted.runs.some((w) => w.id === id && w.attempt === attempt));
    this.see({ replicas: keptReplicas, runs: keptRuns });
    this.onApply?.(wanted);
    return Promise.resolve();
  }

  async *observe(signal: AbortSignal): AsyncGenerator<Observed> {
    while (!signal.aborted) {
      const { value, version } = this.#observed.get();
      yield value;
      await this.#observed.changed(version, signal);
    }
  }

  refuses(inference: { runtime: string; image?: string }): string | undefined {
    return inference.runtime === "image" ? "the memory backend does not run images" : undefined;
  }

  seen(): Observed {
    return this.#observed.get().value;
  }

  /** Changes what the machines say. */
  see(patch: Partial<Observed>): void {
    this.#observed.set({ ...this.seen(), ...patch });
  }

  /** Reports a replica, new or again. */
  replica(report: Pick<ReplicaReport, "id" | "phase"> & Partial<ReplicaReport>): void {
    const boot = report.boot ?? this.wanted.replicas.find(({ id }) => id === report.id)?.boot ?? 0;
    const full = { address: `127.0.0.1:${10_000 + boot}`, reason: "", lastNumber: 0, ...report, boot };
    this.see({ replicas: [...this.seen().replicas.filter(({ id }) => id !== report.id), full] });
  }

  /** Reports a run, new or again. */
  run(report: Pick<RunReport, "id" | "attempt" | "phase"> & Partial<RunReport>): void {
    const full = {
      reason: "",
      artifactSha256: "",
      artifactBytes: 0,
      profileSha256: "",
      metrics: {},
      logSha256: "",
      load: undefined,
      ...report,
    };
    this.see({ runs: [...this.seen().runs.filter(({ id }) => id !== report.id), full] });
  }
}
