// What `get` can list: each kind with how it is read, its columns and its name. One table, so that no two kinds differ in manner.
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type Deployment,
  DeploymentSchema,
  Deployments,
  DeploymentStateSchema,
} from "#proto/driftmesh/v1/deployments_pb.ts";
import { Drift, type Episode, EpisodeSchema } from "#proto/driftmesh/v1/drift_pb.ts";
import {
  Mesh,
  type Node,
  NodeSchema,
  type Replica,
  ReplicaSchema,
  type Workload,
  WorkloadSchema,
} from "#proto/driftmesh/v1/mesh_pb.ts";
import { type Model, ModelKindSchema, ModelSchema, type Version, VersionSchema } from "#proto/driftmesh/v1/model_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import {
  type Order,
  OrderSchema,
  Retraining,
  type Run,
  RunPhaseSchema,
  RunSchema,
} from "#proto/driftmesh/v1/retraining_pb.ts";
import { type Rollout, RolloutSchema, Rollouts, RolloutStageSchema } from "#proto/driftmesh/v1/rollouts_pb.ts";
import { allPages, wordOf } from "../client/door.ts";
import { nearest } from "#kernel/base/nearest.ts";
import { age, bytes, type Column, type Context, type Listing, UsageError } from "../terminal/door.ts";

/** `all`: ended ones too. `model`: only of this model, where the kind has one. */
export type Asked = { all: boolean; model: string };
export type Kind = { name: string; list: (context: Context, asked: Asked) => Promise<Listing<unknown>> };

const PAGE = 1000;
const ms = (time: Timestamp | undefined): number => (time === undefined ? 0 : timestampMs(time));
const day = (time: Timestamp | undefined): string =>
  ms(time) === 0 ? "-" : new Date(ms(time)).toISOString().slice(0, 16);
const figures = (numbers: Readonly<Record<string, number>>): string =>
  Object.entries(numbers)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
    .join(", ");

/** A kind whose rows are messages of `schema`. */
function kind<S extends DescMessage>(
  name: string,
  schema: S,
  of: {
    rows: (context: Context, asked: Asked) => Promise<MessageShape<S>[]>;
    columns: (nowMs: number) => Column<MessageShape<S>>[];
    id: (row: MessageShape<S>) => string;
    empty: string;
  },
): Kind {
  const single = name.replace(/s$/, "");
  return {
    name,
    list: async (context, asked) => {
      const rows = await of.rows(context, asked);
      const listing: Listing<MessageShape<S>> = {
        rows,
        columns: of.columns(context.clock.wallMs()),
        json: { [name]: rows.map((row) => toJson(schema, row)) },
        name: (row) => `${single}/${of.id(row)}`,
        empty: of.empty,
      };
      return listing as Listing<unknown>;
    },
  };
}

export const KINDS: readonly Kind[] = [
  kind("models", ModelSchema, {
    rows: async (context) => {
      const registry = await context.connect(Registry);
      return await allPages(
        (pageToken) => registry.listModels({ pageSize: PAGE, pageToken }),
        (page) => page.models,
      );
    },
    columns: (nowMs): Column<Model>[] => [
      { head: "MODEL", of: (r) => r.description?.name ?? "" },
      { head: "KIND", of: (r) => wordOf(ModelKindSchema, r.description?.kind ?? 0) },
      { head: "VERSIONS", of: (r) => String(r.versions.length), right: true },
      {
        head: "ALIASES",
        of: (r) => r.aliases.map((a) => `${a.scope === "open" ? "" : `${a.scope}:`}${a.alias}=${a.version}`).join(" "),
      },
      { head: "AGE", of: (r) => age(nowMs, ms(r.createTime)) },
      { head: "SUMMARY", of: (r) => r.description?.summary ?? "", wide: true },
    ],
    id: (r) => r.description?.name ?? "",
    empty: "no model is registered; try: driftmesh register my.onnx",
  }),
  kind("versions", VersionSchema, {
    rows: async (context, { model }) => {
      const registry = await context.connect(Registry);
      return await allPages(
        (pageToken) => registry.listVersions({ model, pageSize: PAGE, pageToken }),
        (page) => page.versions,
      );
    },
    columns: (nowMs): Column<Version>[] => [
      { head: "MODEL", of: (r) => r.model },
      { head: "VERSION", of: (r) => String(r.version), right: true },
      {
        head: "FROM",
        of: (r) => [r.origin?.kind, r.origin?.trigger].filter((t) => t !== undefined && t !== "").join("/"),
      },
      { head: "METRICS", of: (r) => figures(r.metrics) },
      { head: "SIZE", of: (r) => bytes(Number(r.artifactBytes)), right: true },
      { head: "AGE", of: (r) => age(nowMs, ms(r.createTime)) },
      { head: "ARTIFACT", of: (r) => r.artifactSha256.slice(0, 12), wide: true },
      { head: "PROFILE", of: (r) => r.profileSha256.slice(0, 12), wide: true },
    ],
    id: (r) => `${r.model}:${r.version}`,
    empty: "no version yet; `driftmesh get runs` shows what is under way",
  }),
  kind("deployments", DeploymentSchema, {
    rows: async (context, { all, model }) => {
      const client = await context.connect(Deployments);
      return await allPages(
        (pageToken) => client.listDeployments({ all, model, pageSize: PAGE, pageToken }),
        (page) => page.deployments,
      );
    },
    columns: (nowMs): Column<Deployment>[] => [
      { head: "DEPLOYMENT", of: (r) => r.id },
      { head: "MODEL", of: (r) => (r.pinned ? `${r.model}:${r.version}` : `${r.model}@${r.alias}`) },
      { head: "VERSION", of: (r) => (r.version === 0 ? "-" : String(r.version)), right: true },
      { head: "MODE", of: (r) => (r.node === "" ? "open" : `strict on ${r.node}`) },
      { head: "STATE", of: (r) => wordOf(DeploymentStateSchema, r.state) },
      { head: "AGE", of: (r) => age(nowMs, ms(r.createTime)) },
      { head: "REASON", of: (r) => (r.queuePosition > 0 ? `${r.queuePosition} in queue: ${r.reason}` : r.reason) },
      { head: "ENDPOINT", of: (r) => r.instructions?.endpoint ?? "", wide: true },
    ],
    id: (r) => r.id,
    empty: "nothing is deployed; try: driftmesh deploy MODEL",
  }),
  kind("nodes", NodeSchema, {
    rows: async (context) => (await (await context.connect(Mesh)).listNodes({})).nodes,
    columns: (nowMs): Column<Node>[] => [
      { head: "NODE", of: (r) => r.name },
      { head: "ALIVE", of: (r) => (r.alive ? "yes" : "no") },
      { head: "CPU", of: (r) => `${r.free?.cpu ?? 0} of ${r.shares?.cpu ?? 0} free` },
      {
        head: "MEMORY",
        of: (r) => `${bytes(Number(r.free?.memoryBytes ?? 0))} of ${bytes(Number(r.shares?.memoryBytes ?? 0))} free`,
      },
      { head: "CHANGED", of: (r) => age(nowMs, ms(r.changeTime)) },
    ],
    id: (r) => r.name,
    empty: "no agent has reported yet",
  }),
  kind("workloads", WorkloadSchema, {
    rows: async (context, { all }) => (await (await context.connect(Mesh)).listWorkloads({ all })).workloads,
    columns: (): Column<Workload>[] => [
      { head: "WORKLOAD", of: (r) => r.id },
      { head: "MODEL", of: (r) => `${r.model}:${r.version}` },
      { head: "SCOPE", of: (r) => r.scope },
      { head: "REPLICAS", of: (r) => String(r.replicas), right: true },
      { head: "CLAIMS", of: (r) => String(r.claims), right: true },
      { head: "PHASE", of: (r) => r.phase.toLowerCase() },
      { head: "REASON", of: (r) => r.reason },
    ],
    id: (r) => r.id,
    empty: "nothing runs",
  }),
  kind("replicas", ReplicaSchema, {
    rows: async (context, { all }) => (await (await context.connect(Mesh)).listReplicas({ all })).replicas,
    columns: (nowMs): Column<Replica>[] => [
      { head: "REPLICA", of: (r) => r.id },
      { head: "MODEL", of: (r) => `${r.model}:${r.version}` },
      { head: "NODE", of: (r) => r.node },
      { head: "PHASE", of: (r) => r.phase.toLowerCase() },
      { head: "ADDRESS", of: (r) => r.address },
      { head: "CHANGED", of: (r) => age(nowMs, ms(r.changeTime)) },
      { head: "REASON", of: (r) => r.reason },
      { head: "BOOT", of: (r) => String(r.boot), right: true, wide: true },
    ],
    id: (r) => r.id,
    empty: "no replica runs",
  }),
  kind("runs", RunSchema, {
    rows: async (context, { model }) => {
      const client = await context.connect(Retraining);
      return await allPages(
        (pageToken) => client.listRuns({ model, pageSize: PAGE, pageToken }),
        (page) => page.runs,
      );
    },
    columns: (nowMs): Column<Run>[] => [
      { head: "RUN", of: (r) => r.id },
      { head: "MODEL", of: (r) => r.model },
      { head: "TRIGGER", of: (r) => r.trigger },
      { head: "PHASE", of: (r) => wordOf(RunPhaseSchema, r.phase) },
      { head: "VERSION", of: (r) => (r.version === 0 ? "-" : String(r.version)), right: true },
      { head: "AGE", of: (r) => age(nowMs, ms(r.createTime)) },
      { head: "REASON", of: (r) => r.reason },
      { head: "METRICS", of: (r) => figures(r.metrics), wide: true },
    ],
    id: (r) => r.id,
    empty: "no run yet; `driftmesh retrain MODEL` orders one",
  }),
  kind("orders", OrderSchema, {
    rows: async (context, { model }) => {
      const client = await context.connect(Retraining);
      return await allPages(
        (pageToken) => client.listOrders({ model, pageSize: PAGE, pageToken }),
        (page) => page.orders,
      );
    },
    columns: (): Column<Order>[] => [
      { head: "ORDER", of: (r) => r.id },
      { head: "KIND", of: (r) => r.kind },
      { head: "MODEL", of: (r) => r.model },
      { head: "BY", of: (r) => r.by },
      { head: "EVENT TIME", of: (r) => day(r.eventTime) },
      { head: "WITHHELD", of: (r) => (r.withheld === "" ? "-" : r.withheld) },
      { head: "REASON", of: (r) => r.reason },
    ],
    id: (r) => r.id,
    empty: "no order was given or withheld",
  }),
  kind("rollouts", RolloutSchema, {
    rows: async (context, { model }) => {
      const client = await context.connect(Rollouts);
      return await allPages(
        (pageToken) => client.listRollouts({ model, pageSize: PAGE, pageToken }),
        (page) => page.rollouts,
      );
    },
    columns: (nowMs): Column<Rollout>[] => [
      { head: "ROLLOUT", of: (r) => r.id },
      { head: "MODEL", of: (r) => r.model },
      { head: "FROM", of: (r) => String(r.champion), right: true },
      { head: "TO", of: (r) => String(r.challenger), right: true },
      { head: "STAGE", of: (r) => wordOf(RolloutStageSchema, r.stage) },
      { head: "AGE", of: (r) => age(nowMs, ms(r.createTime)) },
      { head: "NUMBERS", of: (r) => figures(r.numbers) },
      { head: "REASON", of: (r) => r.reason },
      { head: "DECISION", of: (r) => r.decision, wide: true },
    ],
    id: (r) => r.id,
    empty: "no rollout yet",
  }),
  kind("episodes", EpisodeSchema, {
    rows: async (context, { model }) => {
      const client = await context.connect(Drift);
      return await allPages(
        (pageToken) => client.listEpisodes({ model, pageSize: PAGE, pageToken }),
        (page) => page.episodes,
      );
    },
    columns: (): Column<Episode>[] => [
      { head: "EPISODE", of: (r) => r.id },
      { head: "MODEL", of: (r) => r.model },
      { head: "CLASS", of: (r) => r.class },
      { head: "STATE", of: (r) => (r.closedAs === "" ? r.state.toLowerCase() : `closed, ${r.closedAs}`) },
      { head: "FROM", of: (r) => day(r.fromTime) },
      { head: "TO", of: (r) => day(r.toTime) },
      {
        head: "CAUSES",
        of: (r) =>
          r.causes
            .slice(0, 3)
            .map((c) => `${c.feature} ${c.kind}`)
            .join(", "),
      },
      { head: "WITHHELD", of: (r) => r.withheld },
      { head: "DECISION", of: (r) => r.decision, wide: true },
    ],
    id: (r) => r.id,
    empty: "no episode of drift",
  }),
];

/** The kind called so, in one or many; another name is a mistake of the call. */
export function kindOf(name: string): Kind {
  const found = KINDS.find((kind) => kind.name === name || kind.name === `${name}s`);
  if (found !== undefined) return found;
  const names = KINDS.map((kind) => kind.name);
  const near = nearest(name, names);
  const meant = near === "" ? "" : `did you mean ${near}? `;
  throw new UsageError(`nothing is called "${name}"`, `${meant}one of ${names.join(", ")}`);
}
