// The control plane's orders to this replica: keys of inference ids, and the other arm.
// F1 Without a control plane the last orders hold; it is called again for as long as the replica lives.
import { backoffMs } from "#kernel/base/backoff.ts";
import type { Clock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { messageOf } from "#kernel/fault/error.ts";
import type { Logger } from "#kernel/process/log.ts";
import { grpcClient } from "#kernel/rpc/grpcjs.ts";
import { Sync, type ReplicaOrders } from "#proto/driftmesh/internal/v1/sync_pb.ts";

export type FollowDeps = { control: string; replica: string; boot: number; clock: Clock; rand: Rand; log: Logger };

/** Calls `obey` with the newest orders and with each change, until the signal aborts. */
export async function followOrders(
  deps: FollowDeps,
  obey: (orders: ReplicaOrders) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { control, replica, boot, clock, rand, log } = deps;
  using client = grpcClient(Sync, control);
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    try {
      for await (const orders of client.followReplica({ replica, boot }, { signal })) {
        attempt = 0;
        await obey(orders);
      }
    } catch (error) {
      if (attempt === 0 && !signal.aborted) log.warn("sync.control-plane-away", { reason: messageOf(error) });
    }
    await clock.sleep(backoffMs(attempt, rand, 200, 5_000), signal).catch(() => undefined);
  }
}
