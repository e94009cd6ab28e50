// The store, the log and the blobs of the simulated mesh: one of each, in memory, seen by every process through its own network.
// S1 Every committed write is one trace event, with what each key was before. S2 A watch may lag and skip revisions, never the newest.
import type {
  Blobs,
  Entry,
  EventLog,
  Guard,
  LogEvent,
  Publication,
  StateStore,
  WatchEvent,
  Write,
  WriteResult,
} from "#kernel/store/ports.ts";
import { MemoryBlobs } from "#kernel/store/memory/blobs.ts";
import { MemoryEventLog } from "#kernel/store/memory/event-log.ts";
import { MemoryStateStore } from "#kernel/store/memory/state-store.ts";
import type { VirtualClock } from "#kernel/base/clock.ts";
import type { Network } from "./network.ts";
import type { SimProcess } from "./process.ts";
import type { Trace } from "./trace.ts";

type Sabotage = { unfenced?: boolean; forgetful?: boolean; deposed?: boolean };

export type Seat = { process: SimProcess; network: Network };

/** A bucket as the server has it. */
export class SimBucket {
  readonly memory = new MemoryStateStore();
  readonly #name: "state" | "drift";
  readonly #trace: Trace;
  readonly #values = new Map<string, unknown>();

  readonly #sabotage: Sabotage;

  constructor(name: "state" | "drift", trace: Trace, sabotage: Sabotage = {}) {
    this.#name = name;
    this.#trace = trace;
    this.#sabotage = sabotage;
  }

  /** The server's side of a batch (S1). */
  async commit(by: string, writes: readonly Write[], guard?: Guard): Promise<WriteResult> {
    const { unfenced, forgetful, deposed } = this.#sabotage;
    const renewal = writes.length === 1 && writes[0]?.key === "lease.leader";
    if (deposed === true && by === "cp-1" && renewal) throw new Error("the renewal was lost");
    if (forgetful === true && writes.some(({ key }) => key.endsWith(".ack"))) return { kind: "written", revision: 0 };
    const result = await this.memory.batch(writes, unfenced === true ? undefined : guard);
    if (result.kind === "fenced") this.#trace.add({ kind: "fenced", by, keys: writes.map(({ key }) => key) });
    if (result.kind !== "written") return result;
    const changes = writes.map((write) => {
      const before = this.#values.get(write.key);
      const after =
        write.kind === "delete"
          ? undefined
          : opaque.test(write.key)
            ? { bytes: write.value.byteLength }
            : decoded(write.value);
      if (after === undefined) this.#values.delete(write.key);
      else this.#values.set(write.key, after);
      return { key: write.key, before, after };
    });
    this.#trace.add({ kind: "write", by, bucket: this.#name, guard, changes });
    return result;
  }

  /** The decoded value of a key, now. */
  peek(key: string): unknown {
    return this.#values.get(key);
  }

  keys(prefix: string): string[] {
    return [...this.#values.keys()].filter((key) => key.startsWith(prefix)).toSorted();
  }

  /** Every watcher is told to forget and read again, as after a lost connection. */
  resync(): void {
    this.memory.restore(this.memory.snapshot());
  }

  for({ process, network }: Seat): StateStore {
    const { memory } = this;
    const call = <T>(effect: () => Promise<T>, signal?: AbortSignal): Promise<T> =>
      network.call(process, effect, { signal });
    return {
      get: (key, signal) => call(() => memory.get(key), signal),
      list: (prefix, signal): Promise<Entry[]> => call(() => memory.list(prefix), signal),
      write: (write, guard) => call(() => this.commit(process.name, [write], guard)),
      batch: (writes, guard) => call(() => this.commit(process.name, writes, guard)),
      watch: (prefix, signal): AsyncIterable<WatchEvent> =>
        follow({ process, network }, signal, (end) => memory.watch(prefix, end)),
      close: () => Promise.resolve(),
    };
  }
}

/** A stream as the server has it. */
export class SimLog {
  readonly memory: MemoryEventLog;
  readonly #name: string;
  readonly #trace: Trace;

  constructor(name: string, time: VirtualClock, trace: Trace) {
    this.memory = new MemoryEventLog(time);
    this.#name = name;
    this.#trace = trace;
  }

  async append(by: string, publication: Publication): Promise<{ seq: number; duplicate: boolean }> {
    const stored = await this.memory.publish(publication);
    if (!stored.duplicate) {
      const { subject, id } = publication;
      this.#trace.add({ kind: "published", by, log: this.#name, subject, id, seq: stored.seq });
    }
    return stored;
  }

  for({ process, network }: Seat): EventLog {
    const { memory } = this;
    return {
      publish: (publication, signal) =>
        network.call(process, () => this.append(process.name, publication), { signal, repeatable: true }),
      read: (options, signal): AsyncIterable<LogEvent> =>
        follow({ process, network }, signal, (end) => memory.read(options, end)),
      info: (filter, signal) => network.call(process, () => memory.info(filter), { signal }),
      close: () => Promise.resolve(),
    };
  }
}

export class SimBlobs {
  readonly memory = new MemoryBlobs();

  for({ process, network }: Seat): Blobs {
    const { memory } = this;
    return {
      put: (content) => network.call(process, () => memory.put(content), { repeatable: true }),
      get: (sha256, signal) => network.call(process, () => memory.get(sha256), { signal }),
      has: (sha256) => network.call(process, () => memory.has(sha256)),
      remove: (sha256) => network.call(process, () => memory.remove(sha256), { repeatable: true }),
      close: () => Promise.resolve(),
    };
  }
}

/** A stream of the server's as a process gets it: late now and then, silent for ever once the process is dead (S2). */
export async function* follow<T>(
  { process, network }: Seat,
  signal: AbortSignal,
  open: (end: AbortSignal) => AsyncIterable<T>,
): AsyncGenerator<T> {
  const over = new AbortController();
  const end = AbortSignal.any([process.with(signal), over.signal]);
  const source = open(end)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const lagMs = network.lagMs(process);
      if (lagMs > 0) {
        await process.clock.sleep(lagMs, signal).catch(() => undefined);
        if (signal.aborted) return;
        if (network.isCut(process.name)) continue;
      }
      const next = await process.gate(source.next());
      if (next.done === true) return;
      while (network.isCut(process.name) && !signal.aborted)
        await process.clock.sleep(1_000, signal).catch(() => undefined);
      yield next.value;
    }
  } finally {
    over.abort();
  }
}

/** Large values that no checker reads. */
const opaque = /^(snap|join|decision|segment|cursor)\./;

function decoded(value: Uint8Array): unknown {
  const text = new TextDecoder().decode(value);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return { bytes: value.byteLength };
  }
}
