// Where records and panes become safe: streams of NATS, and in strict mode the node's own log for records.
// N1 A strict sidecar opens no stream of NATS but MESH_PANE.
import type { Clock } from "#kernel/base/clock.ts";
import { backoffMs } from "#kernel/base/backoff.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { grpcClient } from "#kernel/rpc/grpcjs.ts";
import { openNats, type NatsCredentials, type NatsStores } from "#kernel/store/nats/door.ts";
import type { EventLog } from "#kernel/store/ports.ts";
import { NodeLog } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import type { Sink } from "./publisher.ts";
import type { Outgoing } from "./wire.ts";

export type SinkOptions = {
  nats: { url: string; credentials: NatsCredentials | undefined; name: string };
  /** Strict mode: where the agent answers, and the node whose log takes the records. */
  nodeLog: { address: string; node: string } | undefined;
  clock: Clock;
  rand: Rand;
  failed: (what: string, error: unknown) => void;
};

const NATS_WINDOW = 32;
const CONNECT_MS = 5_000;
const NODE_DEADLINE_MS = 10_000;

export function openSink(options: SinkOptions, signal: AbortSignal): Sink & AsyncDisposable {
  const stores = connected(options, signal);
  stores.catch(() => undefined);
  const logs = new Map<string, Promise<EventLog>>();
  const logOf = (stream: Outgoing["stream"]): Promise<EventLog> => {
    let log = logs.get(stream);
    if (log === undefined) logs.set(stream, (log = stores.then((opened) => opened.log(stream))));
    return log;
  };
  const { nodeLog } = options;
  const agent = nodeLog === undefined ? undefined : grpcClient(NodeLog, nodeLog.address);
  return {
    window: (stream) => (agent !== undefined && stream === "MESH_REC" ? 1 : NATS_WINDOW),
    async publish({ stream, subject, id, payload }, stop) {
      if (agent !== undefined && nodeLog !== undefined && stream === "MESH_REC") {
        const { node } = nodeLog;
        await agent.publish({ node, stream, subject, id, payload }, { signal: stop, deadlineMs: NODE_DEADLINE_MS });
        return;
      }
      const log = await logOf(stream);
      await log.publish({ subject, id, payload }, stop);
    },
    async [Symbol.asyncDispose]() {
      agent?.[Symbol.dispose]();
      if (signal.aborted) await stores.then((opened) => opened[Symbol.asyncDispose]()).catch(() => undefined);
    },
  };
}

/** Dials for as long as it takes: a replica serves without a store, and its write-ahead file waits. */
async function connected({ nats, clock, rand, failed }: SinkOptions, signal: AbortSignal): Promise<NatsStores> {
  const { url, name, credentials } = nats;
  for (let attempt = 0; ; attempt += 1) {
    signal.throwIfAborted();
    try {
      const options = { url, name, clock, rand, bootstrap: false, connectMs: CONNECT_MS };
      return await openNats(credentials === undefined ? options : { ...options, credentials });
    } catch (error) {
      if (attempt === 0) failed("nats", error);
      await clock.sleep(backoffMs(attempt, rand, 200, 5_000), signal);
    }
  }
}
