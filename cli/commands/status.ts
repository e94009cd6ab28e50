// `driftmesh status`: the parts of the mesh on this machine, and what the mesh says of itself.
import { toJson } from "@bufbuild/protobuf";
import { Agent, type Service, ServiceSchema } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { Mesh, type Status, StatusSchema } from "#proto/driftmesh/v1/mesh_pb.ts";
import { type Column, type Command, type Context, printListing } from "../terminal/door.ts";
import { livingHost } from "../local/door.ts";

export function describe(command: Command): void {
  command.addHelpText("after", "\nExample:\n  driftmesh status -o wide");
}

const COLUMNS: readonly Column<Service>[] = [
  { head: "NAME", of: (service) => service.name },
  { head: "STATE", of: (service) => service.state },
  { head: "ADDRESS", of: (service) => service.address || "-" },
  { head: "PID", of: (service) => (service.pid === 0 ? "-" : String(service.pid)), right: true },
  { head: "RESTARTS", of: (service) => String(service.restarts), right: true },
  { head: "LOG", of: (service) => service.log || "-", wide: true },
];

export async function run(context: Context, command: Command): Promise<number> {
  const host = await livingHost(context.data);
  const services = host === undefined ? [] : await servicesOf(context, host.socket);
  // The gateway of this folder's mesh, unless the user named another address.
  const named = command.optsWithGlobals<{ server?: string }>().server ?? context.env["DRIFTMESH_SERVER"];
  const server = named ?? (host === undefined ? context.server : `127.0.0.1:${host.port}`);
  const mesh = await context.connect(Mesh, server);
  const status = await mesh.getStatus({}, { timeoutMs: 5_000 }).catch((thrown: unknown) => {
    if (services.length === 0) throw thrown;
    return undefined;
  });
  await printListing(context, {
    rows: services,
    columns: COLUMNS,
    name: (service) => `service/${service.name}`,
    empty: `no mesh runs in ${context.data}; this is the one at ${server}`,
    json: {
      services: services.map((service) => toJson(ServiceSchema, service)),
      ...(status === undefined ? {} : { mesh: toJson(StatusSchema, status) }),
    },
  });
  if (context.format === "table" || context.format === "wide")
    context.terminal.out(`${services.length > 0 ? "\n" : ""}${sentence(server, status)}\n`);
  return status !== undefined && services.every(({ name, state }) => state === "ready" || name.startsWith("replica/"))
    ? 0
    : 1;
}

async function servicesOf(context: Context, socket: string): Promise<Service[]> {
  const agent = await context.connect(Agent, `unix:${socket}`);
  return (await agent.getServices({})).services;
}

function sentence(server: string, status: Status | undefined): string {
  if (status === undefined) return `the mesh at ${server} does not answer`;
  const { version, models, deployments, replicasReady, hasLeader, epoch, term, dataFolder } = status;
  const counts = `models ${models} · deployments ${deployments} · ready replicas ${replicasReady}`;
  const leader = hasLeader ? `epoch ${epoch}, term ${term}` : "no leader at the moment";
  return `driftmesh ${version} at ${server} · ${counts} · ${leader}\ndata: ${dataFolder}`;
}
