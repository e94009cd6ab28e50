// The recorder's own thread: takes rows from the ring, folds, batches, writes ahead, publishes. Owns the connection to NATS.
// K1 It ends when it is told the last number: it takes what is in the ring, counts what is missing, and sends until all is acknowledged
//    or its thread is ended. K2 Nothing it says to the main thread holds a value of a row.
import { parentPort, workerData } from "node:worker_threads";
import { present } from "#kernel/base/assert.ts";
import { systemClock } from "#kernel/base/clock.ts";
import { systemRand } from "#kernel/base/rand.ts";
import type { Profile } from "#kernel/domain/profile.ts";
import { messageOf } from "#kernel/fault/error.ts";
import { FileBlobs } from "#kernel/store/file/blobs.ts";
import type { NatsCredentials } from "#kernel/store/nats/door.ts";
import { Pipeline, type Identity, type PipelineStats } from "./pipeline.ts";
import { Publisher, type PublisherDeps } from "./publisher.ts";
import { recover } from "./recovery.ts";
import { Ring } from "./ring.ts";
import { decodeBlock } from "./rows.ts";
import { openSink } from "./sinks.ts";
import { Spool } from "./spool.ts";

export type WorkerOrder = {
  ring: SharedArrayBuffer;
  identity: Identity;
  profile: Pick<Profile, "features" | "score">;
  profileSha256: string;
  folder: string;
  blobs: string;
  nats: { url: string; credentials: NatsCredentials | undefined; name: string };
  nodeLog: { address: string; node: string } | undefined;
};
export type ToWorker = { kind: "finish"; lastNumber: number };
export type FromWorker =
  | { kind: "stats"; stats: PipelineStats; waiting: number }
  | { kind: "log"; level: "info" | "warn"; event: string; fields: Record<string, unknown> }
  | { kind: "finished"; stats: PipelineStats };

const STATS_MS = 1_000;
const TURN_BLOCKS = 64;

async function main(order: WorkerOrder): Promise<void> {
  const port = present(parentPort, "the main thread");
  const say = (message: FromWorker): void => port.postMessage(message);
  const warn = (event: string, fields: Record<string, unknown>): void =>
    say({ kind: "log", level: "warn", event, fields });
  const stopping = new AbortController();
  const finish = Promise.withResolvers<number>();
  const ring = new Ring(order.ring);
  let lastNumber: number | undefined;
  port.on("message", (message: ToWorker) => {
    lastNumber = message.lastNumber;
    finish.resolve(message.lastNumber);
    ring.wake();
  });

  const clock = systemClock;
  const rand = systemRand;
  await using sink = openSink(
    { ...order, clock, rand, failed: (what, error) => warn("recorder.store-away", { what, reason: messageOf(error) }) },
    stopping.signal,
  );
  const deps: PublisherDeps = {
    sink,
    clock,
    rand,
    failed: (stream, error) =>
      warn("recorder.publish-failed", {
        stream,
        reason: messageOf(error),
      }),
  };
  const { identity, profileSha256, folder } = order;
  const spool = new Spool({
    folder,
    head: { ...identity, profileSha256 },
    failed: (error) => warn("recorder.disk-failed", { reason: messageOf(error) }),
  });
  const acknowledged = { wake: (): void => undefined };
  const source = {
    next: () => spool.next(),
    acknowledge: (entry: Parameters<Spool["acknowledge"]>[0]) => {
      spool.acknowledge(entry);
      acknowledged.wake();
    },
  };
  const publisher = new Publisher(deps, source, stopping.signal);
  const pipeline = new Pipeline(identity, order.profile, (message) => spool.append(message));
  const recovering = recover(recoveryOf(order, say), deps, stopping.signal).catch((error: unknown) =>
    warn("recorder.recovery-failed", { reason: messageOf(error) }),
  );

  await drainRing(ring, {
    pipeline,
    turn: () => publisher.pump(),
    stats: () => say({ kind: "stats", stats: pipeline.stats, waiting: spool.waiting }),
    finished: () => lastNumber,
  });
  pipeline.finish(await finish.promise, clock.monotonicMs());
  publisher.pump();
  while (!spool.empty) {
    const { promise, resolve } = Promise.withResolvers<void>();
    acknowledged.wake = resolve;
    if (!spool.empty) await promise;
  }
  await recovering;
  spool.close();
  stopping.abort();
  say({ kind: "finished", stats: pipeline.stats });
  port.close();
}

type Loop = { pipeline: Pipeline; turn: () => void; stats: () => void; finished: () => number | undefined };

/** Takes from the ring until the end has been told and the ring is empty. */
async function drainRing(ring: Ring, { pipeline, turn, stats, finished }: Loop): Promise<void> {
  let saidMs = 0;
  for (;;) {
    const nowMs = systemClock.monotonicMs();
    let taken = 0;
    for (let message = ring.take(); message !== undefined; message = taken < TURN_BLOCKS ? ring.take() : undefined) {
      pipeline.take(decodeBlock(message), nowMs);
      taken += 1;
    }
    pipeline.tick(nowMs);
    turn();
    if (nowMs - saidMs >= STATS_MS) {
      stats();
      saidMs = nowMs;
    }
    if (taken === 0 && finished() !== undefined) return;
    // A full turn lets acknowledgements in before the next.
    if (taken >= TURN_BLOCKS) await systemClock.sleep(0);
    else await ring.arrival(finished() === undefined ? pipeline.idleMs(nowMs) : 1);
  }
}

function recoveryOf(order: WorkerOrder, say: (message: FromWorker) => void): Parameters<typeof recover>[0] {
  const blobs = new FileBlobs({ dir: order.blobs, rand: systemRand });
  return {
    folder: order.folder,
    boot: order.identity.boot,
    strict: order.identity.strict,
    profileOf: async (sha256) => {
      if (sha256 === order.profileSha256) return order.profile;
      const content = sha256 === "" ? undefined : await blobs.get(sha256).catch(() => undefined);
      return content === undefined ? undefined : (JSON.parse(Buffer.from(content).toString()) as Profile);
    },
    recovered: (news) => say({ kind: "log", level: "info", event: "recorder.leftover-sent", fields: news }),
  };
}

await main(workerData as WorkerOrder);
