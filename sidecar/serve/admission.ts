// How much may be in flight. A1 Over the bounds the answer is DM-3004 with a retry hint at once: nothing waits in a hidden queue.
import { MeshError } from "#kernel/fault/error.ts";

export type Bounds = { calls: number; bytes: number };
export const DEFAULT_BOUNDS: Bounds = { calls: 256, bytes: 128 << 20 };

export class Admission {
  readonly #bounds: Bounds;
  #calls = 0;
  #bytes = 0;
  refused = 0;

  constructor(bounds: Bounds) {
    this.#bounds = bounds;
  }

  get inFlight(): number {
    return this.#calls;
  }

  /** Takes a place; give it back with `leave(bytes)`. One call larger than the byte bound is taken when it is alone. */
  enter(bytes: number): void {
    const full = this.#calls >= this.#bounds.calls || (this.#calls > 0 && this.#bytes + bytes > this.#bounds.bytes);
    if (full) {
      this.refused += 1;
      throw new MeshError(
        "DM-3004",
        `the replica has ${this.#calls} calls in flight, its bound is ${this.#bounds.calls} calls and ${this.#bounds.bytes} bytes; try again in a second`,
      );
    }
    this.#calls += 1;
    this.#bytes += bytes;
  }

  leave(bytes: number): void {
    this.#calls -= 1;
    this.#bytes -= bytes;
  }
}
