// driftmesh.v1.Retraining: runs and orders.
// T1 An order by hand and its run are created together; the same request id finds them.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { derivedId } from "#kernel/domain/ids.ts";
import type { Scope } from "#kernel/domain/model.ts";
import { KEYS, type OrderState, type RunPhase as Phase, type RunState } from "#kernel/domain/state.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { startSpan } from "#kernel/process/trace.ts";
import type { ServiceImpl } from "#kernel/rpc/connect.ts";
import {
  type OrderRunRequest,
  type OrderSchema,
  type Retraining,
  RunPhase,
  type RunSchema,
} from "#proto/driftmesh/v1/retraining_pb.ts";
import { encode } from "../pass/door.ts";
import { championOf, eventClock, RUN_ENDED, runsOf, trackOf } from "../world/door.ts";
import {
  type ApiDeps,
  byTime,
  checkName,
  commit,
  invalid,
  modelOf,
  notFound,
  pageOf,
  read,
  requestedId,
  watch,
} from "./access.ts";
import { nodeOf } from "./discovery.ts";
import { checkModelFilter } from "./registry.ts";

const REASON_MAX = 500;

export function retrainingService(deps: ApiDeps): ServiceImpl<typeof Retraining> {
  return {
    async orderRun(request, { requestHeader }) {
      const traceparent = requestHeader.get("traceparent") ?? undefined;
      const span = startSpan("control-plane.OrderRun", traceparent);
      try {
        return await orderRun(deps, request, span.traceparent ?? traceparent);
      } catch (error) {
        span.fail(error instanceof MeshError ? error.fault : "failed");
        throw error;
      } finally {
        span.end();
      }
    },
    async getRun({ id }) {
      return runMessage(await find(deps, id));
    },
    async listRuns(request) {
      await checkModelFilter(deps, request.model);
      const all = deps.world
        .all("run")
        .flatMap(({ value }) => (request.model === "" || value.model === request.model ? [value] : []));
      const { items, nextPageToken } = pageOf(all, byTime, request);
      return { runs: items.map(runMessage), nextPageToken };
    },
    async *watchRun({ id }, { signal }) {
      const first = await find(deps, id);
      yield* watch(deps, signal, () => {
        const run = deps.world.get("run", KEYS.run(id))?.value ?? first;
        return { message: runMessage(run), mark: canonicalJson(run), ended: RUN_ENDED.has(run.phase) };
      });
    },
    async listOrders(request) {
      await checkModelFilter(deps, request.model);
      const all = deps.world
        .all("order")
        .flatMap(({ value }) => (request.model === "" || value.model === request.model ? [value] : []));
      const { items, nextPageToken } = pageOf(all, byTime, request, "down");
      return { orders: items.map(orderMessage), nextPageToken };
    },
  };
}

async function find(deps: ApiDeps, id: string): Promise<RunState> {
  checkName("id", id);
  const run = await read(deps, "run", KEYS.run(id));
  if (run !== undefined) return run;
  throw notFound(
    "DM-2005",
    `no run has the id ${id}`,
    id,
    deps.world.all("run").map(({ value }) => value.id),
  );
}

async function orderRun(deps: ApiDeps, request: OrderRunRequest, trace: string | undefined) {
  const { world, clock } = deps;
  const { description } = await modelOf(deps, request.model);
  const model = description.name;
  const scope = decodeScope(deps, request);
  const runId = requestedId(deps, "run", "OrderRun", request.requestId);
  const known = await read(deps, "run", KEYS.run(runId));
  if (known !== undefined) {
    if (known.model === model && known.scope === scope) return runMessage(known);
    throw invalid([
      {
        field: "request_id",
        description: `an id that was not used before: ${request.requestId} ordered a run of ${known.model}`,
      },
    ]);
  }
  if (scope !== "open")
    throw new MeshError(
      "DM-7001",
      "runs of strict tracks are not built yet: they need a sandbox without network; the open track can be retrained",
    );
  if (description.trainCode === undefined)
    throw new MeshError(
      "DM-2007",
      `model ${model} came as a file and has no train code: register the new file under another name`,
    );
  if (description.trainCode.kind === "git")
    throw new MeshError("DM-7001", "running train code by git is not built yet: register with a folder");
  const earlier = runsOf(world, model).filter((run) => run.scope === scope && !RUN_ENDED.has(run.phase));
  if (championOf(world, model, scope) === 0)
    throw new MeshError(
      "DM-2007",
      `model ${model} has no version yet${earlier[0] === undefined ? "" : `: run ${earlier[0].id} is ${earlier[0].phase}`}`,
    );
  const waiting = earlier.find(({ trigger, phase }) => trigger === "hand" && phase === "Pending");
  if (waiting !== undefined)
    throw new MeshError("DM-2007", `run ${waiting.id} by hand is waiting already: ${waiting.reason}`);
  const nowMs = clock.wallMs();
  const order: OrderState = {
    id: derivedId("ord", runId),
    kind: "retrain",
    model,
    scope,
    target: "",
    by: "hand",
    reason: request.reason,
    withheld: "",
    evidence: request.shadowDays > 0 ? { shadow_days: request.shadowDays } : {},
    eventMs: eventClock(world, trackOf(world, model, scope)?.value.ordinal ?? 0),
    createdMs: nowMs,
  };
  const run: RunState = {
    id: runId,
    model,
    scope,
    trigger: "hand",
    order: order.id,
    episode: "",
    phase: "Pending",
    attempt: 0,
    node: "",
    manifestSha256: "",
    reason: "ordered by hand",
    version: 0,
    metrics: {},
    logSha256: "",
    ...(trace === undefined ? {} : { trace }),
    createdMs: nowMs,
    changedMs: nowMs,
  };
  await commit(deps, [
    { kind: "create", key: KEYS.order(order.id), value: encode(order) },
    { kind: "create", key: KEYS.run(run.id), value: encode(run) },
  ]);
  return runMessage(await find(deps, runId));
}

function decodeScope(deps: ApiDeps, { scope, reason, shadowDays }: OrderRunRequest): Scope {
  const violations = [];
  if (scope !== "" && scope !== "open" && !/^node\/[a-z0-9-]+$/.test(scope))
    violations.push({ field: "scope", description: "open or node/<name>" });
  if (reason.length > REASON_MAX) violations.push({ field: "reason", description: `at most ${REASON_MAX} characters` });
  if (shadowDays > 365) violations.push({ field: "shadow_days", description: "at most 365" });
  if (violations.length > 0) throw invalid(violations);
  if (scope === "" || scope === "open") return "open";
  return `node/${nodeOf(deps, scope.slice("node/".length)).name}`;
}

const PHASES: Readonly<Record<Phase, RunPhase>> = {
  Pending: RunPhase.PENDING,
  Running: RunPhase.RUNNING,
  Checking: RunPhase.CHECKING,
  Succeeded: RunPhase.SUCCEEDED,
  Failed: RunPhase.FAILED,
  Cancelled: RunPhase.CANCELLED,
};

function runMessage(run: RunState): MessageInitShape<typeof RunSchema> {
  return {
    id: run.id,
    model: run.model,
    scope: run.scope,
    trigger: run.trigger,
    episode: run.episode,
    phase: PHASES[run.phase],
    attempt: run.attempt,
    node: run.node,
    reason: run.reason,
    version: run.version,
    metrics: { ...run.metrics },
    dataManifestSha256: run.manifestSha256,
    logSha256: run.logSha256,
    createTime: timestampFromMs(run.createdMs),
    changeTime: timestampFromMs(run.changedMs),
  };
}

function orderMessage(order: OrderState): MessageInitShape<typeof OrderSchema> {
  return {
    id: order.id,
    kind: order.kind,
    model: order.model,
    scope: order.scope,
    by: order.by,
    reason: order.reason,
    withheld: order.withheld,
    evidence: Object.fromEntries(
      Object.entries(order.evidence).map(([name, value]) => [name, typeof value === "number" ? figure(value) : value]),
    ),
    eventTime: timestampFromMs(order.eventMs),
    createTime: timestampFromMs(order.createdMs),
  };
}

const figure = (value: number): string => String(Number(value.toPrecision(6)));
