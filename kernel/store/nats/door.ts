// The way into NATS for every service: one connection, checked server, streams and buckets in place, and the three ports on top.
import { present } from "../../base/assert.ts";
import type { Cell } from "../../base/queue.ts";
import type { BUCKETS } from "../../domain/state.ts";
import type { Blobs, EventLog, StateStore } from "../ports.ts";
import { JetStreamApi } from "./api.ts";
import { type Asset, assets } from "./assets.ts";
import { NatsBlobs } from "./blobs.ts";
import { checkServer, ensure } from "./bootstrap.ts";
import { NatsEventLog } from "./event-log.ts";
import { type LinkOptions, type LinkState, openLink } from "./link.ts";
import { NatsStateStore } from "./state-store.ts";

export type { NatsCredentials } from "./link.ts";
export type NatsOptions = LinkOptions & {
  /** Copies of every stream: 1 on a laptop, 3 or 5 in a cluster (1 by default). */
  replicas?: number;
  /** What all streams together may hold (GiB, 16 by default); used when they are made. */
  storageGib?: number;
  /** False where another process makes the streams and this one has no right to (true by default). */
  bootstrap?: boolean;
  /** Where sequences begin in streams that are made now: a restored mesh goes on behind those its records speak of. */
  firstSequences?: Readonly<Record<string, number>>;
};
export type BucketName = (typeof BUCKETS)[keyof typeof BUCKETS];
export type StreamName = "MESH_REC" | "MESH_FB" | "MESH_PANE" | "MESH_EVENT";

export type NatsStores = AsyncDisposable & {
  state(bucket: BucketName): StateStore;
  log(stream: StreamName): EventLog;
  blobs(): Blobs;
  /** Whether the link stands, newest value only. */
  readonly status: Cell<LinkState>;
  /** What the server says against our credentials while it refuses them (DM-6012); dials go on. */
  readonly refusal: string | undefined;
  readonly server: { version: string; apiLevel: number };
};

/** Connects, checks the server (DM-6003), makes what is missing (DM-6009 on other settings). Dispose to close. */
export async function openNats(options: NatsOptions): Promise<NatsStores> {
  const link = await openLink(options);
  const deps = { link, clock: options.clock, rand: options.rand };
  const api = new JetStreamApi(deps);
  const wanted = assets(options.replicas ?? 1, options.storageGib ?? 16).map((asset): Asset => {
    const firstSeq = options.firstSequences?.[asset.name];
    return firstSeq === undefined ? asset : { ...asset, firstSeq };
  });
  try {
    await checkServer(deps, api);
    if (options.bootstrap !== false) await ensure(api, wanted);
  } catch (thrown) {
    await link.close();
    throw thrown;
  }
  const ports = { ...deps, api };
  const opened: { close(): Promise<void> }[] = [];
  const keep = <T extends { close(): Promise<void> }>(port: T): T => {
    opened.push(port);
    return port;
  };
  return {
    state: (bucket) => keep(new NatsStateStore(ports, bucket)),
    log: (stream) => {
      const asset = present(
        wanted.find((candidate) => candidate.name === stream),
        `stream ${stream}`,
      );
      return keep(new NatsEventLog(ports, stream, asset.subjects));
    },
    blobs: () => keep(new NatsBlobs(ports)),
    status: link.state,
    get refusal() {
      return link.refusal;
    },
    server: link.server,
    [Symbol.asyncDispose]: async () => {
      for (const port of opened.splice(0)) await port.close();
      await link.close();
    },
  };
}
