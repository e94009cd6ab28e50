// driftmesh.v1.Discovery: requirements from the wire, answers back.
import { MeshError, type Violation } from "#kernel/fault/error.ts";
import type { ServiceImpl } from "#kernel/rpc/connect.ts";
import type { Discovery, Requirements as RequirementsMessage } from "#proto/driftmesh/v1/discovery_pb.ts";
import { FeatureType, Mode, ModelKind } from "#proto/driftmesh/v1/model_pb.ts";
import { findModels, type Requirements } from "../discovery/door.ts";
import { KINDS } from "../registry/door.ts";
import { type ApiDeps, invalid, notFound } from "./access.ts";

const LIMIT_MAX = 100;
export function discoveryService(deps: ApiDeps): ServiceImpl<typeof Discovery> {
  return {
    findModels({ requirements, limit }) {
      const wanted = decode(deps, requirements, limit);
      const { matches, nonMatches } = findModels(deps.world, wanted, limit === 0 ? 10 : limit);
      return { matches: matches.map((match) => ({ ...match, metrics: { ...match.metrics } })), nonMatches };
    },
  };
}

function decode(deps: ApiDeps, r: RequirementsMessage | undefined, limit: number): Requirements {
  const violations: Violation[] = [];
  if (limit > LIMIT_MAX) violations.push({ field: "limit", description: `at most ${LIMIT_MAX}; it is ${limit}` });
  const kind = r?.kind ?? ModelKind.UNSPECIFIED;
  if (kind !== ModelKind.UNSPECIFIED && KINDS[kind] === undefined)
    violations.push({ field: "requirements.kind", description: "a kind of this version of the mesh" });
  r?.features.forEach(({ name }, i) => {
    if (name === "") violations.push({ field: `requirements.features[${i}].name`, description: "a name" });
  });
  for (const [name, bound] of Object.entries(r?.metrics ?? {}))
    if (!Number.isFinite(bound))
      violations.push({ field: `requirements.metrics.${name}`, description: "a finite number" });
  const node = r?.node ?? "";
  const strict = r?.mode === Mode.STRICT;
  if (!strict && node !== "")
    violations.push({ field: "requirements.node", description: "nothing: only strict mode names a node" });
  if (violations.length > 0) throw invalid(violations);
  const named = strict ? nodeOf(deps, node) : undefined;
  const cpu = r?.resources?.cpu ?? 0;
  const memoryBytes = Number(r?.resources?.memoryBytes ?? 0n);
  const word = KINDS[kind];
  return {
    ...(word === undefined ? {} : { kind: word }),
    words: (r?.words ?? "").split(/\s+/).filter((part) => part !== ""),
    features: (r?.features ?? []).map(({ name, type }) => ({ name, ...typeOf(type) })),
    uses: r?.uses ?? [],
    metrics: r?.metrics ?? {},
    resources: { ...(cpu > 0 ? { cpu } : {}), ...(memoryBytes > 0 ? { memoryBytes } : {}) },
    explainability: r?.explainability ?? [],
    scope: strict ? `node/${node}` : "open",
    ...(named === undefined ? {} : { node: named }),
  };
}

function typeOf(type: FeatureType): { type?: "number" | "category" } {
  if (type === FeatureType.NUMBER) return { type: "number" };
  return type === FeatureType.CATEGORY ? { type: "category" } : {};
}

/** The node of strict mode, or why there is none. */
export function nodeOf({ world }: ApiDeps, name: string) {
  if (name === "") throw new MeshError("DM-2010", "node: strict mode needs the node whose folder may hold the values");
  const nodes = world.all("node").map(({ value }) => value);
  const node = nodes.find((n) => n.name === name);
  if (node !== undefined) return node;
  throw notFound(
    "DM-2004",
    `no node is called "${name}"`,
    name,
    nodes.map((n) => n.name),
  );
}
