// A bounded ring of messages in shared memory: one writer thread, one reader thread, no locks.
// R1 `offer` never waits: no room means false. R2 Messages come out whole and in order.
// R3 Positions count 8-byte words and wrap at 2^32; the writer alone moves `head`, the reader alone `tail`.

const HEAD = 0;
const TAIL = 1;
const CONTROL_BYTES = 16;
const WRAP = 0xffff_ffff;

export class Ring {
  readonly shared: SharedArrayBuffer;
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array;
  readonly #capacity: number;

  /** Over shared memory made by `Ring.ofBytes` in either thread. */
  constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.#control = new Int32Array(shared, 0, 4);
    this.#words = new Uint32Array(shared, CONTROL_BYTES);
    this.#bytes = new Uint8Array(shared, CONTROL_BYTES);
    this.#capacity = this.#bytes.byteLength / 8;
  }

  /** `bytes` is a power of two. */
  static ofBytes(bytes: number): Ring {
    return new Ring(new SharedArrayBuffer(CONTROL_BYTES + bytes));
  }

  /** The largest message that surely fits into an empty ring. */
  get largest(): number {
    return this.#capacity * 4 - 8;
  }

  offer(message: Uint8Array): boolean {
    const head = Atomics.load(this.#control, HEAD);
    const used = (head - Atomics.load(this.#control, TAIL)) | 0;
    const words = 1 + Math.ceil(message.byteLength / 8);
    const index = (head >>> 0) % this.#capacity;
    const skip = index + words > this.#capacity ? this.#capacity - index : 0;
    if (used + skip + words > this.#capacity) return false;
    const start = skip > 0 ? 0 : index;
    if (skip > 0) this.#words[index * 2] = WRAP;
    this.#words[start * 2] = message.byteLength;
    this.#bytes.set(message, start * 8 + 8);
    Atomics.store(this.#control, HEAD, (head + skip + words) | 0);
    Atomics.notify(this.#control, HEAD);
    return true;
  }

  /** A copy of the next message, or undefined when there is none. */
  take(): Uint8Array<ArrayBuffer> | undefined {
    let tail = Atomics.load(this.#control, TAIL);
    const head = Atomics.load(this.#control, HEAD);
    if (tail === head) return undefined;
    let index = (tail >>> 0) % this.#capacity;
    if (this.#words[index * 2] === WRAP) {
      tail = (tail + this.#capacity - index) | 0;
      index = 0;
    }
    const bytes = this.#words[index * 2] ?? 0;
    const message = new Uint8Array(bytes);
    message.set(this.#bytes.subarray(index * 8 + 8, index * 8 + 8 + bytes));
    Atomics.store(this.#control, TAIL, (tail + 1 + Math.ceil(bytes / 8)) | 0);
    return message;
  }

  /** Ends the present `arrival` early. */
  wake(): void {
    Atomics.notify(this.#control, HEAD);
  }

  /** Resolves when something may have been offered, at the latest after `ms`. */
  async arrival(ms: number): Promise<void> {
    const head = Atomics.load(this.#control, HEAD);
    if (head !== Atomics.load(this.#control, TAIL)) return;
    const wait = Atomics.waitAsync(this.#control, HEAD, head, ms);
    if (wait.async) await wait.value;
  }
}
