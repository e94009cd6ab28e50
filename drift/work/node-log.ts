// A stream of a strict node as an EventLog: read over the agent's socket, never written by us.
// N1 A broken connection ends the read with an error; the feed begins again behind what it has.
import { MeshError } from "#kernel/fault/error.ts";
import type { GrpcClient } from "#kernel/rpc/grpcjs.ts";
import type { EventLog, LogEvent } from "#kernel/store/ports.ts";
import type { NodeLog } from "#proto/driftmesh/internal/v1/agent_pb.ts";

const INFO_MS = 10_000;

export class NodeEventLog implements EventLog {
  readonly #options: { client: GrpcClient<typeof NodeLog>; node: string; stream: string };

  constructor(options: { client: GrpcClient<typeof NodeLog>; node: string; stream: string }) {
    this.#options = options;
  }

  publish(): Promise<never> {
    return Promise.reject(new MeshError("DM-7001", "drift only reads the streams of a node"));
  }

  async *read({ filter, fromSeq }: { filter: string; fromSeq: number }, signal: AbortSignal): AsyncGenerator<LogEvent> {
    const { client, node, stream } = this.#options;
    let next = fromSeq;
    const request = { node, stream, filter, fromSeq: BigInt(fromSeq) };
    for await (const { seq, subject, payload, timeMs, gapFirstSeq } of client.read(request, {
      signal,
      waitForReady: true,
    })) {
      if (gapFirstSeq !== 0n) yield { kind: "gap", wantedSeq: next, firstSeq: Number(gapFirstSeq) };
      yield { kind: "message", message: { seq: Number(seq), subject, payload, headers: {}, timeMs: Number(timeMs) } };
      next = Number(seq) + 1;
    }
  }

  async info(filter?: string, signal?: AbortSignal): Promise<{ firstSeq: number; lastSeq: number; createdMs: number }> {
    const { client, node, stream } = this.#options;
    const end = signal === undefined ? {} : { signal };
    const request = { node, stream, filter: filter ?? "" };
    const { firstSeq, lastSeq, createdMs } = await client.info(request, {
      deadlineMs: INFO_MS,
      waitForReady: true,
      ...end,
    });
    return { firstSeq: Number(firstSeq), lastSeq: Number(lastSeq), createdMs: Number(createdMs) };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
