// driftmesh.v1.Rollouts: the walk of a challenger, and a person's word on it.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { derivedId } from "#kernel/domain/ids.ts";
import { KEYS, type OrderState, type RolloutStage as Stage, type RolloutState } from "#kernel/domain/state.ts";
import { MeshError } from "#kernel/fault/error.ts";
import type { ServiceImpl } from "#kernel/rpc/connect.ts";
import { type RolloutSchema, type Rollouts, RolloutStage } from "#proto/driftmesh/v1/rollouts_pb.ts";
import { encode } from "../pass/door.ts";
import { numbersOf } from "../rollout/door.ts";
import { eventClock, ROLLOUT_ENDED, trackOf } from "../world/door.ts";
import { type ApiDeps, byTime, checkName, commit, invalid, notFound, pageOf, read, settled, watch } from "./access.ts";
import { checkModelFilter } from "./registry.ts";

/** How long a person's word may take to be carried out before the answer says where things stand. */
const SETTLE_MS = 3_000;
const REASON_MAX = 500;

export function rolloutsService(deps: ApiDeps): ServiceImpl<typeof Rollouts> {
  return {
    async getRollout({ id }) {
      return message(deps, await find(deps, id));
    },
    async listRollouts(request) {
      await checkModelFilter(deps, request.model);
      const all = deps.world
        .all("rollout")
        .flatMap(({ value }) => (request.model === "" || value.model === request.model ? [value] : []));
      const { items, nextPageToken } = pageOf(all, byTime, request);
      return { rollouts: items.map((rollout) => message(deps, rollout)), nextPageToken };
    },
    async *watchRollout({ id }, { signal }) {
      const first = await find(deps, id);
      yield* watch(deps, signal, () => {
        const rollout = deps.world.get("rollout", KEYS.rollout(id))?.value ?? first;
        const shown = message(deps, rollout);
        return {
          message: shown,
          mark: canonicalJson([rollout, shown.numbers]),
          ended: ROLLOUT_ENDED.has(rollout.stage),
        };
      });
    },
    promoteRollout: ({ id, reason }) => say(deps, "promote", id, reason),
    rejectRollout: ({ id, reason }) => say(deps, "reject", id, reason),
  };
}

async function find(deps: ApiDeps, id: string): Promise<RolloutState> {
  checkName("id", id);
  const rollout = await read(deps, "rollout", KEYS.rollout(id));
  if (rollout !== undefined) return rollout;
  throw notFound(
    "DM-2005",
    `no rollout has the id ${id}`,
    id,
    deps.world.all("rollout").map(({ value }) => value.id),
  );
}

/** Writes the order, and waits a moment for the leader to carry it out. */
async function say(deps: ApiDeps, kind: "promote" | "reject", id: string, reason: string) {
  const { world, clock } = deps;
  if (reason.length > REASON_MAX) throw invalid([{ field: "reason", description: `at most ${REASON_MAX} characters` }]);
  const rollout = await find(deps, id);
  const allowed = kind === "promote" ? rollout.stage === "Shadow" : !ROLLOUT_ENDED.has(rollout.stage);
  // The stage is part of the id: a rejection in Shadow and one in Probation are two words.
  const orderId = derivedId("ord", id, kind, rollout.stage);
  if (!allowed) {
    const where = kind === "promote" ? "only Shadow can be promoted by hand" : "it has ended";
    throw new MeshError("DM-2007", `rollout ${id} is in ${rollout.stage}: ${where}`);
  }
  const order: OrderState = {
    id: orderId,
    kind,
    model: rollout.model,
    scope: rollout.scope,
    target: id,
    by: "hand",
    reason,
    withheld: "",
    evidence: {},
    eventMs: eventClock(world, trackOf(world, rollout.model, rollout.scope)?.value.ordinal ?? 0),
    createdMs: clock.wallMs(),
  };
  if ((await read(deps, "order", KEYS.order(orderId))) === undefined)
    await commit(deps, [{ kind: "create", key: KEYS.order(orderId), value: encode(order) }]);
  const stageNow = () => world.get("rollout", KEYS.rollout(id))?.value.stage;
  await settled(deps, () => stageNow() !== rollout.stage, SETTLE_MS);
  return message(deps, world.get("rollout", KEYS.rollout(id))?.value ?? rollout);
}

const STAGES: Readonly<Record<Stage, RolloutStage>> = {
  Preparing: RolloutStage.PREPARING,
  Shadow: RolloutStage.SHADOW,
  Canary: RolloutStage.CANARY,
  Probation: RolloutStage.PROBATION,
  Promoted: RolloutStage.PROMOTED,
  Rejected: RolloutStage.REJECTED,
  RolledBack: RolloutStage.ROLLED_BACK,
  Frozen: RolloutStage.FROZEN,
};

function message({ world }: ApiDeps, rollout: RolloutState): MessageInitShape<typeof RolloutSchema> {
  // While it lives, the numbers are those of the newest evidence.
  const live = ROLLOUT_ENDED.has(rollout.stage)
    ? {}
    : numbersOf(world.get("evidence", `evidence.${rollout.id}`)?.value);
  const track = trackOf(world, rollout.model, rollout.scope)?.value.ordinal;
  const { seq, ...numbers } = { ...rollout.numbers, ...live } as Record<string, number>;
  return {
    id: rollout.id,
    model: rollout.model,
    scope: rollout.scope,
    champion: rollout.champion,
    challenger: rollout.challenger,
    stage: STAGES[rollout.stage],
    reason: rollout.reason,
    run: rollout.run,
    numbers,
    createTime: timestampFromMs(rollout.createdMs),
    changeTime: timestampFromMs(rollout.changedMs),
    decision: seq === undefined || track === undefined ? "" : `evidence-${track}-${seq}`,
  };
}
