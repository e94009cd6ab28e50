// driftmesh.v1.Deployments: offers, acknowledgements, releases. Everything after that is the leader's.
// P1 A request id makes one deployment, however often it is sent. P2 What is answered never goes back: an acknowledged offer is Pending at once.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { type DeploymentSpec, type DeploymentState as State, KEYS } from "#kernel/domain/state.ts";
import { MeshError, type Violation } from "#kernel/fault/error.ts";
import type { ServiceImpl } from "#kernel/rpc/connect.ts";
import {
  type Deployments,
  type DeploymentSchema,
  DeploymentState,
  type RequestDeploymentRequest,
} from "#proto/driftmesh/v1/deployments_pb.ts";
import { Mode } from "#proto/driftmesh/v1/model_pb.ts";
import { instructionsOf, targetVersion } from "../deployments/door.ts";
import { encode } from "../pass/door.ts";
import { resourcesMessage, tensorMessage } from "../registry/door.ts";
import {
  aliasesOf,
  aliasVersion,
  championOf,
  type ClaimMark,
  type Deployment,
  deploymentOf,
  deployments as allDeployments,
  scopeOf,
  versionsOf,
} from "../world/door.ts";
import {
  type ApiDeps,
  byTime,
  checkName,
  commit,
  invalid,
  modelOf,
  notFound,
  pageOf,
  PRINCIPAL,
  read,
  requestedId,
  sameContent,
  watch,
} from "./access.ts";
import { nodeOf } from "./discovery.ts";
import { checkModelFilter } from "./registry.ts";

const OFFER_MS = 600_000;
const OFFER_MAX_MS = 3_600_000;
const REPLICAS_MAX = 16;
/** Deployments that may wait for a place at once. */
const QUEUE_MAX = 1_000;

export function deploymentsService(deps: ApiDeps): ServiceImpl<typeof Deployments> {
  return {
    requestDeployment: (request) => offer(deps, request),
    acknowledgeDeployment: ({ id }) => acknowledge(deps, id),
    decommissionDeployment: ({ id }) => release(deps, id),
    async getDeployment({ id }) {
      return message(deps, await find(deps, id));
    },
    async listDeployments(request) {
      await checkModelFilter(deps, request.model);
      const all = allDeployments(deps.world).filter((d) => request.model === "" || d.spec.model === request.model);
      const shown = request.all ? all : all.filter((d) => !ENDED.has(stateOf(d)));
      const { items, nextPageToken } = pageOf(shown, ({ spec }) => byTime(spec), request);
      const positions = queuePositions(deps);
      return { deployments: items.map((d) => message(deps, d, positions)), nextPageToken };
    },
    async *watchDeployment({ id }, { signal }) {
      await find(deps, id);
      yield* watch(deps, signal, () => {
        const deployment = present(deploymentOf(deps.world, id), id);
        const shown = message(deps, deployment);
        const mark = canonicalJson([
          deployment.status,
          shown.state,
          shown.reason,
          shown.queuePosition,
          shown.version,
          shown.instructions?.endpoint,
        ]);
        return { message: shown, mark, ended: ENDED.has(stateOf(deployment)) };
      });
    },
  };
}

const ENDED: ReadonlySet<State> = new Set<State>(["Expired", "Released"]);

async function find(deps: ApiDeps, id: string): Promise<Deployment> {
  checkName("id", id);
  if (deploymentOf(deps.world, id) === undefined)
    for (const key of [
      KEYS.deploymentSpec(id),
      KEYS.deploymentAck(id),
      KEYS.deploymentEnd(id),
      KEYS.deploymentStatus(id),
    ])
      await readKey(deps, key);
  return present(
    deploymentOf(deps.world, id),
    id,
    allDeployments(deps.world).map(({ spec }) => spec.id),
  );
}

async function readKey(deps: ApiDeps, key: string): Promise<void> {
  const last = key.split(".")[2];
  if (last === "spec" || last === "ack" || last === "end" || last === "status") await read(deps, last, key);
}

function present(deployment: Deployment | undefined, id: string, known: readonly string[] = []): Deployment {
  if (deployment === undefined) throw notFound("DM-2003", `no deployment has the id ${id}`, id, known);
  return deployment;
}

async function offer(deps: ApiDeps, request: RequestDeploymentRequest) {
  const { clock } = deps;
  const asked = await decode(deps, request);
  const id = requestedId(deps, "dep", "RequestDeployment", request.requestId);
  const nowMs = clock.wallMs();
  const spec: DeploymentSpec = {
    ...asked.spec,
    id,
    requestId: request.requestId,
    createdMs: nowMs,
    offerExpiresMs: nowMs + asked.offerMs,
  };
  const known = await read(deps, "spec", KEYS.deploymentSpec(id));
  if (known === undefined) await commit(deps, [{ kind: "create", key: KEYS.deploymentSpec(id), value: encode(spec) }]);
  const now = present(deploymentOf(deps.world, id), id);
  const timeless = (s: DeploymentSpec) => ({ ...s, createdMs: 0, offerExpiresMs: 0 });
  if (!sameContent(timeless(now.spec), timeless(spec)))
    throw invalid([
      {
        field: "request_id",
        description: `an id that was not used before: ${request.requestId} made deployment ${id} of something else`,
      },
    ]);
  return message(deps, now);
}

const MODES: ReadonlySet<number> = new Set([Mode.UNSPECIFIED, Mode.OPEN, Mode.STRICT]);
type Asked = { spec: Omit<DeploymentSpec, "id" | "requestId" | "createdMs" | "offerExpiresMs">; offerMs: number };

async function decode(deps: ApiDeps, request: RequestDeploymentRequest): Promise<Asked> {
  const { model, alias, version, node } = request;
  const strict = request.mode === Mode.STRICT;
  const offerMs = request.offerTtl === undefined ? OFFER_MS : durationMs(request.offerTtl);
  const violations: Violation[] = [];
  if (alias !== "" && version !== 0)
    violations.push({ field: "version", description: "an alias or a version, not both" });
  if (!MODES.has(request.mode)) violations.push({ field: "mode", description: "open or strict" });
  if (!strict && node !== "")
    violations.push({ field: "node", description: "nothing: only a strict deployment names its node" });
  if (request.replicas > REPLICAS_MAX)
    violations.push({ field: "replicas", description: `at most ${REPLICAS_MAX}; it is ${request.replicas}` });
  if (offerMs <= 0 || offerMs > OFFER_MAX_MS)
    violations.push({ field: "offer_ttl", description: "more than 0 s, at most 1 hour" });
  if (violations.length > 0) throw invalid(violations);
  await modelOf(deps, model);
  if (strict) nodeOf(deps, node);
  const scope = scopeOf({ mode: strict ? "strict" : "open", node });
  const target =
    version === 0
      ? { kind: "alias" as const, alias: alias === "" ? "champion" : alias }
      : { kind: "version" as const, version };
  await checkTarget(deps, model, scope, target);
  const spec = {
    model,
    target,
    mode: strict ? ("strict" as const) : ("open" as const),
    node: strict ? node : "",
    replicas: request.replicas || 1,
    principal: PRINCIPAL,
  };
  return { spec, offerMs };
}

/** A version must exist; so must an alias, but the champion, which a first run may yet make. */
async function checkTarget(
  deps: ApiDeps,
  model: string,
  scope: ReturnType<typeof scopeOf>,
  target: DeploymentSpec["target"],
): Promise<void> {
  const { world } = deps;
  if (target.kind === "version") {
    if ((await read(deps, "version", KEYS.version(model, target.version))) !== undefined) return;
    const known = versionsOf(world, model).map(({ version }) => String(version));
    throw notFound("DM-2002", `model ${model} has no version ${target.version}`, "", known);
  }
  const { alias } = target;
  checkName("alias", alias);
  if (alias === "champion" || aliasVersion(world, model, scope, alias) > 0) return;
  const known = [
    "champion",
    ...aliasesOf(world, model).flatMap((a) => (a.scope === scope && a.alias !== "champion" ? [a.alias] : [])),
  ];
  throw notFound("DM-2002", `model ${model} has no alias "${alias}" in scope ${scope}`, alias, known);
}

async function acknowledge(deps: ApiDeps, id: string) {
  const { clock, world } = deps;
  const { spec, ack, end } = await find(deps, id);
  const expired = (): MeshError =>
    new MeshError("DM-2008", `the offer of deployment ${id} has expired: request it again`);
  if (ack === undefined) {
    if (end !== undefined) throw new MeshError("DM-2007", `deployment ${id} was withdrawn: request another`);
    if (clock.wallMs() > spec.offerExpiresMs) throw expired();
    if (allDeployments(world).filter((d) => stateOf(d) === "Pending").length >= QUEUE_MAX)
      throw new MeshError("DM-2009", `${QUEUE_MAX} deployments are waiting for a place: release some, or try later`);
    await commit(deps, [{ kind: "create", key: KEYS.deploymentAck(id), value: encode(mark(deps)) }]);
  }
  const now = present(deploymentOf(world, id), id);
  // Whether it was acknowledged or expired is decided by who created the key.
  if (now.ack?.value.expired === true) throw expired();
  return message(deps, now);
}

const mark = ({ clock }: ApiDeps): ClaimMark => ({ createdMs: clock.wallMs(), principal: PRINCIPAL });

async function release(deps: ApiDeps, id: string) {
  const { end } = await find(deps, id);
  if (end === undefined && !ENDED.has(stateOf(present(deploymentOf(deps.world, id), id))))
    await commit(deps, [{ kind: "create", key: KEYS.deploymentEnd(id), value: encode(mark(deps)) }]);
  return message(deps, present(deploymentOf(deps.world, id), id));
}

/** The state with what the API has taken in and the leader has not seen yet (P2). */
function stateOf({ status, ack, end }: Deployment): State {
  const state = status?.state ?? "Offered";
  if (state === "Offered" && ack?.value.expired === true) return "Expired";
  if (state === "Offered" && ack !== undefined) return end === undefined ? "Pending" : "Releasing";
  if (end !== undefined && state !== "Offered" && !ENDED.has(state)) return "Releasing";
  return state;
}

const STATES: Readonly<Record<State, DeploymentState>> = {
  Offered: DeploymentState.OFFERED,
  Expired: DeploymentState.EXPIRED,
  Pending: DeploymentState.PENDING,
  Starting: DeploymentState.STARTING,
  Ready: DeploymentState.READY,
  Degraded: DeploymentState.DEGRADED,
  Releasing: DeploymentState.RELEASING,
  Released: DeploymentState.RELEASED,
};

/** Places in the queue by deployment, from 1. */
function queuePositions({ world }: ApiDeps): Map<string, number> {
  const waiting = allDeployments(world)
    .filter((d) => stateOf(d) === "Pending")
    .sort((a, b) => (a.ack?.revision ?? 0) - (b.ack?.revision ?? 0));
  return new Map(waiting.map(({ spec }, i) => [spec.id, i + 1]));
}

function message(
  deps: ApiDeps,
  deployment: Deployment,
  positions?: ReadonlyMap<string, number>,
): MessageInitShape<typeof DeploymentSchema> {
  const { world, settings } = deps;
  const { spec, status } = deployment;
  const state = stateOf(deployment);
  const target = targetVersion(world, deployment);
  // A strict track begins at the open champion: instructions can be given before it does.
  const version =
    status?.version ||
    target ||
    (spec.target.kind === "alias" && spec.target.alias === "champion" ? championOf(world, spec.model, "open") : 0);
  const told = instructionsOf(world, spec, status, { version, endpoint: settings.endpoint });
  const reason =
    state === status?.state
      ? status.reason
      : state === "Pending"
        ? "in the queue"
        : state === "Offered"
          ? "acknowledge it, or let it expire"
          : "released";
  return {
    id: spec.id,
    model: spec.model,
    alias: spec.target.kind === "alias" ? spec.target.alias : "",
    version,
    pinned: spec.target.kind === "version",
    mode: spec.mode === "strict" ? Mode.STRICT : Mode.OPEN,
    node: spec.node,
    replicas: spec.replicas,
    state: STATES[state],
    reason,
    queuePosition: state === "Pending" ? ((positions ?? queuePositions(deps)).get(spec.id) ?? 0) : 0,
    workload: status?.workload ?? "",
    ...(told === undefined
      ? {}
      : {
          instructions: {
            ...told,
            inputs: told.inputs.map(tensorMessage),
            outputs: told.outputs.map(tensorMessage),
            resources: resourcesMessage(told.resources),
          },
        }),
    createTime: timestampFromMs(spec.createdMs),
    offerExpireTime: timestampFromMs(spec.offerExpiresMs),
    changeTime: timestampFromMs(status?.changedMs ?? spec.createdMs),
  };
}
