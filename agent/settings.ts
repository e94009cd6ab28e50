// The agent's settings, out of its environment.
import { join } from "node:path";
import type { Share } from "#kernel/domain/host.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { type Environment, integer, optionalText, readSettings, text } from "#kernel/process/env.ts";

export type AgentSettings = {
  /** The data folder, absolute. */
  data: string;
  /** The repository: where the services' entry files and node_modules lie. */
  root: string;
  /** Port of the gateway; 0 chooses one and keeps it. */
  port: number;
  nodes: readonly Share[];
  /** A NATS that runs already; a server of our own is started when absent. */
  natsUrl: string | undefined;
  natsServer: string | undefined;
  cors: string | undefined;
};

/** Reads them all, or says everything that is wrong. */
export function readAgentSettings(env: Environment): AgentSettings {
  const { nodes, ...rest } = readSettings<Omit<AgentSettings, "nodes"> & { nodes: string }>(env, {
    data: text("DRIFTMESH_DATA"),
    root: text("DRIFTMESH_ROOT", { default: join(import.meta.dirname, "..") }),
    port: integer("DRIFTMESH_PORT", { default: 4747, min: 0, max: 65_535 }),
    nodes: text("DRIFTMESH_NODES"),
    natsUrl: optionalText("DRIFTMESH_NATS_URL"),
    natsServer: optionalText("DRIFTMESH_NATS_SERVER"),
    cors: optionalText("DRIFTMESH_CORS_ORIGINS"),
  });
  return { ...rest, nodes: sharesOf(nodes) };
}

function sharesOf(json: string): Share[] {
  const shares = JSON.parse(json) as Share[];
  const names = new Set(shares.map(({ name }) => name));
  if (shares.length === 0 || names.size !== shares.length)
    throw new MeshError("DM-1002", "DRIFTMESH_NODES must name at least one node, each once");
  return shares;
}
