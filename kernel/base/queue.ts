// A bounded first-in first-out queue with a word for "full", and a cell that keeps only the newest value.

/** Pulled by one reader; `offer` never blocks and says when there is no room. */
export class BoundedQueue<T> {
  readonly #items: T[] = [];
  #head = 0;
  #waiting: (() => void) | undefined;
  #closed = false;
  readonly capacity: number;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get size(): number {
    return this.#items.length - this.#head;
  }

  offer(item: T): "queued" | "full" {
    if (this.#closed || this.size >= this.capacity) return "full";
    this.#items.push(item);
    this.#wake();
    return "queued";
  }

  /** The next item; undefined when the queue is closed and empty, or the signal aborts. */
  async take(signal?: AbortSignal): Promise<T | undefined> {
    while (this.size === 0) {
      if (this.#closed || signal?.aborted === true) return undefined;
      await this.#offered(signal);
    }
    const item = this.#items[this.#head++];
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    return item;
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
  }

  async #offered(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting = resolve;
    const onAbort = (): void => resolve();
    signal?.addEventListener("abort", onAbort, { once: true });
    await promise;
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Holds the newest value and its version; readers wait for a newer one and may skip versions. */
export class Cell<T> {
  #value: T;
  #version = 0;
  #changed = Promise.withResolvers<void>();

  constructor(value: T) {
    this.#value = value;
  }

  get(): { value: T; version: number } {
    return { value: this.#value, version: this.#version };
  }

  set(value: T): void {
    this.#value = value;
    this.#version += 1;
    const changed = this.#changed;
    this.#changed = Promise.withResolvers<void>();
    changed.resolve();
  }

  /** Resolves when the version differs from `seen`, or the signal aborts. */
  async changed(seen: number, signal: AbortSignal): Promise<void> {
    while (this.#version === seen && !signal.aborted) {
      const aborted = Promise.withResolvers<void>();
      const onAbort = (): void => aborted.resolve();
      signal.addEventListener("abort", onAbort, { once: true });
      await Promise.race([this.#changed.promise, aborted.promise]);
      signal.removeEventListener("abort", onAbort);
    }
  }
}
