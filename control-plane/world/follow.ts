// Keeps a world true to the store: one watch per prefix, for as long as the signal lives.
import type { Clock } from "#kernel/base/clock.ts";
import type { Logger } from "#kernel/process/log.ts";
import type { StateStore } from "#kernel/store/ports.ts";
import { DRIFT_PREFIXES, TABLE_NAMES, type TableName } from "./tables.ts";
import type { World } from "./world.ts";

const LEASE_KEY = "lease.leader";
const DRIFT_TABLES: readonly TableName[] = ["episode", "evidence", "verdict", "segment"];
const STATE_TABLES = TABLE_NAMES.filter((name) => !DRIFT_TABLES.includes(name));

export type FollowDeps = { state: StateStore; drift: StateStore; clock: Clock; log: Logger };

/** Follows both buckets until the signal aborts. The world is `synced` once all of it has been seen. */
export async function follow(deps: FollowDeps, world: World, signal: AbortSignal): Promise<void> {
  const { state, drift } = deps;
  world.markUnsynced("");
  for (const prefix of DRIFT_PREFIXES) world.markUnsynced(prefix);
  await Promise.all([
    followPrefix(deps, { store: state, prefix: "", tables: STATE_TABLES }, world, signal),
    ...DRIFT_PREFIXES.map((prefix) =>
      followPrefix(deps, { store: drift, prefix, tables: DRIFT_TABLES }, world, signal),
    ),
  ]);
}

type Source = { store: StateStore; prefix: string; tables: readonly TableName[] };

async function followPrefix(
  { clock, log }: FollowDeps,
  { store, prefix, tables }: Source,
  world: World,
  signal: AbortSignal,
): Promise<void> {
  // Keys of the snapshot that is being read; undefined once it is whole.
  let snapshot: Set<string> | undefined = new Set();
  let newest = 0;
  const saw = (revision: number): void => {
    newest = Math.max(newest, revision);
    if (prefix === "") world.sawUpTo(snapshot === undefined ? newest : 0);
  };
  const begin = (): void => {
    snapshot = new Set();
    newest = 0;
    world.markUnsynced(prefix);
    saw(0);
  };
  while (!signal.aborted) {
    try {
      for await (const event of store.watch(prefix, signal)) {
        if (event.kind === "put") {
          if (event.entry.key === LEASE_KEY) world.sawLease(event.entry.value, clock.monotonicMs());
          snapshot?.add(event.entry.key);
          world.put(event.entry, snapshot !== undefined);
          saw(event.entry.revision);
        } else if (event.kind === "delete") {
          snapshot?.delete(event.key);
          world.delete(event.key, event.revision);
          saw(event.revision);
        } else if (event.kind === "resync") {
          begin();
        } else {
          if (snapshot !== undefined) world.retain(prefix, snapshot, tables);
          snapshot = undefined;
          world.markSynced(prefix);
          saw(0);
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      log.error("world.watch-failed", { prefix, error });
    }
    if (signal.aborted) return;
    begin();
    await clock.sleep(1_000, signal).catch(() => undefined);
  }
}
