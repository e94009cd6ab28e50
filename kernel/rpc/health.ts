// grpc.health.v1 without a library: which names are served, and a watch for each.
// H1 "" is the server as a whole. H2 Once stopping, everything is NOT_SERVING. H3 Watch answers at once, then on each change.
import { Cell } from "../base/queue.ts";
import { HealthCheckResponse_ServingStatus as Serving } from "#proto/grpc/health/v1/health_pb.ts";

export class Health {
  readonly #names = new Map<string, boolean>();
  readonly #changes = new Cell(0);
  #stopping = false;

  constructor(services: readonly string[]) {
    for (const name of ["", ...services]) this.#names.set(name, true);
  }

  /** Sets one name; `undefined` forgets it. */
  setServing(name: string, serving: boolean | undefined): void {
    if (serving === undefined) this.#names.delete(name);
    else this.#names.set(name, serving);
    this.#changes.set(0);
  }

  stop(): void {
    this.#stopping = true;
    this.#changes.set(0);
  }

  /** Undefined when the name is not known. */
  status(name: string): Serving | undefined {
    const serving = this.#names.get(name);
    if (serving === undefined) return undefined;
    return serving && !this.#stopping ? Serving.SERVING : Serving.NOT_SERVING;
  }

  async *watch(name: string, signal: AbortSignal): AsyncGenerator<{ status: Serving }> {
    let said: Serving | undefined;
    while (!signal.aborted) {
      const { version } = this.#changes.get();
      const status = this.status(name) ?? Serving.SERVICE_UNKNOWN;
      if (status !== said) yield { status };
      said = status;
      await this.#changes.changed(version, signal);
    }
  }
}
