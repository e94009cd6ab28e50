// The incarnation of the store: which one this is, and what a new one needs before anybody decides in it.
// A new one is known by the time at which MESH_PANE was made: restored from a backup, or its streams were made anew beside the old keys.
// N1 The epoch is written last: what comes before may be repeated by the next leader, and is harmless.
// N2 Whoever issues ids in the new epoch has a new key and a boot that was never given out, by a life that went on after the backup neither.
//    Old keys stay: ids of the old life verify. N3 The new stream knows nothing: each fact is told again, as one revision higher.
// N4 Replicas of the old life stay what they are until an agent has spoken: absence is no order (decided in deployments/reports.ts).
import type { Rand } from "#kernel/base/rand.ts";
import { type EpochState, KEYS, type ReplicaState } from "#kernel/domain/state.ts";
import type { Logger } from "#kernel/process/log.ts";
import type { Entry, EventLog, Guard, StateStore, Write } from "#kernel/store/ports.ts";
import { encode } from "../pass/door.ts";
import { type BootState, type FactState, OWN_KEYS, REPLICA_ENDED, type World } from "../world/door.ts";

export type EpochDeps = { state: StateStore; panes: EventLog; world: World; rand: Rand; log: Logger };

/** Boots that a new epoch leaves free: more than any life gives out after its last backup. 32 bits hold 4,096 such leaps. */
export const BOOT_LEAP = 2 ** 20;
const BATCH_WRITES = 500;

/** The epoch of the store as it is; begins the next one where the streams are not those of the last. */
export async function ensureEpoch(deps: EpochDeps, guard: Guard): Promise<EpochState> {
  const { state, panes, log } = deps;
  const [known, { createdMs }] = await Promise.all([state.get(KEYS.epoch), panes.info()]);
  const old = known === undefined ? undefined : valueOf<EpochState>(known);
  if (old?.streamCreatedMs === createdMs) return old;
  if (old !== undefined) await tellAgain(deps, guard);
  const epoch: EpochState = { epoch: (old?.epoch ?? 0) + 1, streamCreatedMs: createdMs };
  await commit(deps, guard, [...(await firstOfEpoch(deps, epoch.epoch)), write(KEYS.epoch, epoch, known)]);
  log.info("leader.epoch-began", { epoch: epoch.epoch });
  return epoch;
}

/** N3. */
async function tellAgain(deps: EpochDeps, guard: Guard): Promise<void> {
  const facts = (await deps.state.list("fact.")).map((entry) => {
    const { fact } = valueOf<FactState>(entry);
    return write(entry.key, { fact: { ...fact, revision: fact.revision + 1 }, acked: 0 }, entry);
  });
  const ended = (await deps.state.list("replica.")).flatMap((entry) => {
    const { told, ...replica } = valueOf<ReplicaState>(entry);
    return told === true && REPLICA_ENDED.has(replica.phase) ? [write(entry.key, replica, entry)] : [];
  });
  const writes = [...facts, ...ended];
  for (let at = 0; at < writes.length; at += BATCH_WRITES)
    await commit(deps, guard, writes.slice(at, at + BATCH_WRITES));
}

/** N2. */
async function firstOfEpoch({ state, rand }: EpochDeps, epoch: number): Promise<Write[]> {
  const key = Buffer.from(rand.bytes(32)).toString("base64");
  const mac = write(OWN_KEYS.mac(epoch), { key }, undefined);
  const known = await state.get(OWN_KEYS.boot);
  if (known === undefined) return [mac];
  const last = (Math.floor(valueOf<BootState>(known).last / BOOT_LEAP) + 1) * BOOT_LEAP;
  return [mac, write(OWN_KEYS.boot, { last, floor: last + 1 } satisfies BootState, known)];
}

async function commit({ state, world }: EpochDeps, guard: Guard, writes: readonly Write[]): Promise<void> {
  const result = await state.batch(writes, guard);
  if (result.kind !== "written") throw new Error(`the epoch could not be written: ${result.kind}`);
  world.applyWritten(writes, result.revision);
}

function write(key: string, value: unknown, known: Entry | undefined): Write {
  return known === undefined
    ? { kind: "create", key, value: encode(value) }
    : { kind: "update", key, value: encode(value), revision: known.revision };
}

const valueOf = <T>({ value }: Entry): T => JSON.parse(new TextDecoder().decode(value)) as T;
