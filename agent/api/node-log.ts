// internal.v1 NodeLog on the agent's socket.
import { grpcService, type GrpcService } from "#kernel/rpc/grpcjs.ts";
import type { EventLog } from "#kernel/store/ports.ts";
import { NodeLog } from "#proto/driftmesh/internal/v1/agent_pb.ts";

/** The service over the node's logs. */
export function nodeLogService(logOf: (node: string, stream: string) => Promise<EventLog>): GrpcService {
  return grpcService(NodeLog, {
    async publish({ node, stream, subject, id, payload }) {
      const log = await logOf(node, stream);
      const { seq, duplicate } = await log.publish({ subject, id, payload });
      return { seq: BigInt(seq), duplicate };
    },
    async *read({ node, stream, filter, fromSeq }, call) {
      const log = await logOf(node, stream);
      let gapFirstSeq = 0n;
      for await (const event of log.read({ filter, fromSeq: Math.max(1, Number(fromSeq)) }, call.signal)) {
        if (event.kind === "gap") gapFirstSeq = BigInt(event.firstSeq);
        if (event.kind !== "message") continue;
        const { seq, subject, payload, timeMs } = event.message;
        yield { seq: BigInt(seq), subject, payload, timeMs: BigInt(timeMs), gapFirstSeq };
        gapFirstSeq = 0n;
      }
    },
    async info({ node, stream, filter }) {
      const log = await logOf(node, stream);
      const { firstSeq, lastSeq, createdMs } = await log.info(filter === "" ? undefined : filter);
      return { firstSeq: BigInt(firstSeq), lastSeq: BigInt(lastSeq), createdMs: BigInt(createdMs) };
    },
  });
}
