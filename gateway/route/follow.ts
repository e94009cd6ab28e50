// Keeps the newest routes of the control plane. F1 When it is away the last ones stay; the stream is opened again with back-off.
import { backoffMs } from "#kernel/base/backoff.ts";
import type { Clock } from "#kernel/base/clock.ts";
import type { Cell } from "#kernel/base/queue.ts";
import type { Rand } from "#kernel/base/rand.ts";
import type { Logger } from "#kernel/process/log.ts";
import { connectClient } from "#kernel/rpc/connect.ts";
import { Sync } from "#proto/driftmesh/internal/v1/sync_pb.ts";
import { routeTable, type RouteTable } from "./table.ts";

const MAX_WAIT_MS = 2_000;

/** Follows Sync.FollowRoutes at `control` until the signal aborts. */
export async function followRoutes(options: {
  control: string;
  gateway: string;
  routes: Cell<RouteTable | undefined>;
  clock: Clock;
  rand: Rand;
  log: Logger;
  signal: AbortSignal;
}): Promise<void> {
  const { clock, control, gateway, log, rand, routes, signal } = options;
  const sync = connectClient(Sync, control);
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      for await (const pushed of sync.followRoutes({ gateway }, { signal })) {
        if (attempt > 0 || routes.get().value === undefined) log.info("gateway.routes-followed", { control });
        attempt = 0;
        routes.set(routeTable(pushed));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (attempt === 0) log.warn("gateway.routes-lost", { control, error });
    }
    await clock.sleep(backoffMs(attempt, rand, 100, MAX_WAIT_MS), signal).catch(() => undefined);
  }
}
