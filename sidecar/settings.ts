// What a sidecar is told by its environment, read and checked once.
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { MeshError, messageOf } from "#kernel/fault/error.ts";
import { optionalText, readSettings, text, type Environment } from "#kernel/process/env.ts";
import type { NatsCredentials } from "#kernel/store/nats/door.ts";
import { ReplicaSpecSchema, type ModelSpec, type ReplicaSpec } from "#proto/driftmesh/internal/v1/agent_pb.ts";

export type SidecarSettings = {
  listen: string;
  spec: ReplicaSpec & { model: ModelSpec };
  strict: boolean;
  control: string;
  blobs: string;
  work: string;
  nats: { url: string; credentials: NatsCredentials | undefined };
  /** Address of the agent; always there in strict mode. */
  agent: string | undefined;
};

type Raw = {
  listen: string;
  replica: string;
  control: string;
  blobs: string;
  work: string;
  natsUrl: string;
  natsCredentials?: string | undefined;
  agentSocket?: string | undefined;
};

export function readSidecarSettings(env: Environment): SidecarSettings {
  const raw = readSettings<Raw>(env, {
    listen: text("DRIFTMESH_LISTEN", { default: "127.0.0.1:0" }),
    replica: text("DRIFTMESH_REPLICA"),
    control: text("DRIFTMESH_CONTROL"),
    blobs: text("DRIFTMESH_BLOBS"),
    work: text("DRIFTMESH_WORK"),
    natsUrl: text("DRIFTMESH_NATS_URL"),
    natsCredentials: optionalText("DRIFTMESH_NATS_CREDENTIALS"),
    agentSocket: optionalText("DRIFTMESH_AGENT_SOCKET"),
  });
  const spec = specOf(raw.replica);
  const strict = spec.scope !== "open";
  if (strict && raw.agentSocket === undefined)
    throw wrong("DRIFTMESH_AGENT_SOCKET", "is not set; a strict replica keeps records in its node's log");
  const { listen, control, blobs, work, natsUrl, agentSocket } = raw;
  const agent = agentSocket === undefined || agentSocket.startsWith("unix:") ? agentSocket : `unix:${agentSocket}`;
  return {
    listen,
    control,
    blobs,
    work,
    spec,
    strict,
    agent,
    nats: { url: natsUrl, credentials: credentialsOf(raw.natsCredentials) },
  };
}

function specOf(json: string): SidecarSettings["spec"] {
  let spec: ReplicaSpec;
  try {
    spec = fromJson(ReplicaSpecSchema, JSON.parse(json) as JsonValue, { ignoreUnknownFields: true });
  } catch (error) {
    throw wrong("DRIFTMESH_REPLICA", `is not a ReplicaSpec in protobuf's JSON: ${messageOf(error)}`);
  }
  const { model } = spec;
  if (model === undefined) throw wrong("DRIFTMESH_REPLICA", "has no model");
  if (spec.macKeys.length === 0) throw wrong("DRIFTMESH_REPLICA", "has no mac_keys");
  return { ...spec, model };
}

function credentialsOf(json: string | undefined): NatsCredentials | undefined {
  if (json === undefined) return undefined;
  const parsed: unknown = JSON.parse(json);
  const { user, password } = (parsed ?? {}) as { user?: unknown; password?: unknown };
  if (typeof user !== "string" || typeof password !== "string")
    throw wrong("DRIFTMESH_NATS_CREDENTIALS", "is not {user, password} in JSON");
  return { user, password };
}

function wrong(variable: string, problem: string): MeshError {
  return new MeshError("DM-1002", `${variable} ${problem}`, {
    violations: [{ field: variable, description: problem }],
  });
}
