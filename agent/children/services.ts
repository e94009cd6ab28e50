// The services of the mesh: started, started again with back-off when they end, and ended in order.
// V1 Back-off starts at 100 ms, ends at 10 s, and begins anew after a service has lived for a minute.
import { backoffMs } from "#kernel/base/backoff.ts";
import type { Clock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import type { Logger } from "#kernel/process/log.ts";
import { type Child, type ChildSpec, exitSentence, startChild } from "./child.ts";
import type { Lifelines } from "./lifelines.ts";
import { signalGroup } from "./processes.ts";

const SETTLED_MS = 60_000;
const DRAIN_MS = 3_000;
const KILL_MS = DRAIN_MS + 2_000;

export type ServiceView = {
  name: string;
  /** starting, ready, draining, restarting or stopped. */
  state: string;
  address: string;
  pid: number;
  log: string;
  restarts: number;
};

type Service = {
  spec: ChildSpec;
  child: Child | undefined;
  restarts: number;
  stop: AbortController;
  loop: Promise<void>;
};

export type ServicesOptions = {
  clock: Clock;
  rand: Rand;
  log: Logger;
  lifelines: Lifelines;
  /** Called after each start and exit. */
  changed: () => void;
};

export class Services {
  readonly #options: ServicesOptions;
  readonly #services = new Map<string, Service>();

  constructor(options: ServicesOptions) {
    this.#options = options;
  }

  /** Starts a service and keeps it running; a name that is there already is left alone. */
  keep(spec: ChildSpec): void {
    if (this.#services.has(spec.name)) return;
    const service: Service = {
      spec,
      child: undefined,
      restarts: 0,
      stop: new AbortController(),
      loop: Promise.resolve(),
    };
    this.#services.set(spec.name, service);
    service.loop = this.#loop(service);
  }

  has(name: string): boolean {
    return this.#services.has(name);
  }

  children(): Child[] {
    return [...this.#services.values()].flatMap(({ child }) => (child?.ended() === undefined && child ? [child] : []));
  }

  views(): ServiceView[] {
    return [...this.#services.values()].map(({ spec, child, restarts, stop }) => {
      const alive = child !== undefined && child.ended() === undefined;
      const held = this.#options.lifelines.of(spec.name);
      const known = alive && held?.pid === child.mark.pid ? held : undefined;
      const state = alive ? (known?.state ?? "starting") : stop.signal.aborted ? "stopped" : "restarting";
      return {
        name: spec.name,
        state,
        address: known?.address ?? "",
        pid: alive ? child.mark.pid : 0,
        log: spec.log,
        restarts,
      };
    });
  }

  /** Ends the named services together; resolves when they are gone. */
  async end(names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => this.#end(name)));
  }

  async endAll(): Promise<void> {
    await this.end([...this.#services.keys()]);
  }

  async #end(name: string): Promise<void> {
    const service = this.#services.get(name);
    if (service === undefined) return;
    service.stop.abort();
    const { child } = service;
    if (child !== undefined && child.ended() === undefined) {
      if (!this.#options.lifelines.drain(name, DRAIN_MS)) signalGroup(child.mark.pid, "SIGTERM");
      await child.endWithin(KILL_MS, this.#options.clock);
    }
    await service.loop;
  }

  async #loop(service: Service): Promise<void> {
    const { clock, rand, log, changed } = this.#options;
    const { spec, stop } = service;
    for (let failures = 0; !stop.signal.aborted;) {
      const beganMs = clock.monotonicMs();
      const child = await startChild(spec);
      service.child = child;
      log.info("child.started", { child: spec.name, pid: child.mark.pid });
      changed();
      if (stop.signal.aborted) signalGroup(child.mark.pid, "SIGTERM");
      const exit = await child.exit;
      changed();
      if (stop.signal.aborted) return log.info("child.stopped", { child: spec.name, how: exitSentence(exit) });
      service.restarts += 1;
      failures = clock.monotonicMs() - beganMs > SETTLED_MS ? 0 : failures + 1;
      const waitMs = backoffMs(Math.max(0, failures - 1), rand, 100, 10_000);
      log.warn("child.ended", { child: spec.name, how: exitSentence(exit), restarts: service.restarts, waitMs });
      await clock.sleep(waitMs, stop.signal).catch(() => undefined);
    }
  }
}
