// The people and programs that use the mesh: each asks under a request id until it has an answer, as clients do.
// U1 What was answered yes is told to the trace as a promise. U2 Nothing is asked anew once faults have stopped; what was begun is finished.
import type { VirtualClock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import type { DeploymentStatus, RolloutState } from "#kernel/domain/state.ts";
import type { Desk } from "./desk.ts";
import type { SimBucket } from "./store.ts";
import type { Trace } from "./trace.ts";

export type UsersOptions = {
  time: VirtualClock;
  rand: Rand;
  trace: Trace;
  /** The control plane, as it is reached by one call that may fail in any way. */
  desk: Desk;
  /** Only to see when to act; nobody decides by it. */
  state: SimBucket;
};

const AGAIN_MS = 1_500;

export class Users {
  readonly #options: UsersOptions;
  readonly #end = new AbortController();
  #requests = 0;
  readonly #held: string[] = [];

  constructor(options: UsersOptions) {
    this.#options = options;
  }

  start(): void {
    void this.#register("alpha", true).catch(() => undefined);
    void this.#register("beta", false).catch(() => undefined);
  }

  /** U2. */
  stop(): void {
    this.#end.abort();
  }

  async #register(model: string, trained: boolean): Promise<void> {
    const { desk, rand, state } = this.#options;
    await this.#pause(5_000);
    await this.#asked("model", (request) => desk.register(request, model, trained));
    // The first deployment stays, whatever it takes: without traffic a track's event clock stands still.
    while (!(await this.#deploy(model, { replicas: 1 + rand.below(2), version: 0, node: "" })))
      await this.#pause(1_000);
    await this.#until(() => state.peek(`alias.${model}.open.champion`) !== undefined);
    while (!this.#end.signal.aborted) {
      await this.#pause(40_000);
      await this.#something(model, trained);
    }
  }

  async #something(model: string, trained: boolean): Promise<unknown> {
    const { desk, rand, state } = this.#options;
    switch (rand.below(6)) {
      case 0:
        return this.#deploy(model, { replicas: 1 + rand.below(2), version: 0, node: "" });
      case 1:
        return this.#deploy(model, { replicas: 1, version: 1, node: "" });
      case 2:
        return trained ? this.#deploy(model, { replicas: 1, version: 0, node: "north" }) : undefined;
      case 3: {
        const id = this.#held.filter((held) => held.startsWith(`${model} `))[1];
        if (id === undefined) return undefined;
        this.#held.splice(this.#held.indexOf(id), 1);
        const deployment = id.split(" ")[1] ?? "";
        return this.#asked("release", () => desk.release(deployment));
      }
      case 4:
        return trained ? this.#asked("order", (request) => desk.orderRun(request, model)) : undefined;
      default: {
        const live = state.keys("rollout.").map((key) => state.peek(key) as RolloutState);
        const rollout = live.find((r) => r.model === model && r.stage === "Shadow");
        if (rollout === undefined || rand.next() < 0.5) return undefined;
        const word = rand.next() < 0.5 ? "promote" : "reject";
        return this.#asked(undefined, () => desk.decide(rollout.id, word));
      }
    }
  }

  async #deploy(model: string, wish: { replicas: number; version: number; node: string }): Promise<boolean> {
    const { desk, rand, state } = this.#options;
    const id = await this.#asked(undefined, (request) => desk.requestDeployment(request, { model, ...wish }));
    if (id === undefined || rand.next() < 0.1) return false;
    await this.#pause(rand.next() < 0.4 ? 25_000 : 2_000);
    const expired = (): boolean =>
      (state.peek(`dep.${id}.status`) as DeploymentStatus | undefined)?.state === "Expired";
    const told = await this.#asked("deployment", () => desk.acknowledge(id), expired);
    if (told !== undefined) this.#held.push(`${model} ${id}`);
    return told !== undefined;
  }

  /** Asks until answered (U1); undefined when the faults stopped before it was taken, or `hopeless` says so. */
  async #asked(
    what: "model" | "deployment" | "release" | "order" | undefined,
    ask: (requestId: string) => Promise<string>,
    hopeless: () => boolean = () => false,
  ): Promise<string | undefined> {
    const { time, trace } = this.#options;
    const request = `request-${(this.#requests += 1)}`;
    for (;;) {
      try {
        const id = await ask(request);
        if (what !== undefined) trace.add({ kind: "promised", what, id });
        return id;
      } catch (error) {
        trace.add({
          kind: "note",
          says: `client: ${what ?? "a word"} ${request}: ${error instanceof Error ? error.message : String(error)}`,
        });
        if (isRefusal(error) || hopeless()) return undefined;
        await time.sleep(AGAIN_MS);
      }
    }
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition() && !this.#end.signal.aborted) await this.#options.time.sleep(1_000);
  }

  async #pause(mostMs: number): Promise<void> {
    await this.#options.time.sleep(this.#options.rand.below(mostMs), this.#end.signal);
  }
}

/** An answer that asking again will not change. */
function isRefusal(error: unknown): boolean {
  return (
    error instanceof Error &&
    "fault" in error &&
    typeof error.fault === "string" &&
    /^DM-(1|2)/.test(error.fault) &&
    error.fault !== "DM-2012"
  );
}
