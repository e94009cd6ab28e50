// Ends the mesh of a data folder: asks its agent, which ends its children first.
import { MeshError } from "#kernel/fault/error.ts";
import { isAlive } from "#kernel/store/lock.ts";
import { Agent } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import type { Context } from "../terminal/door.ts";
import { livingHost } from "./host.ts";

const STOP_MS = 60_000;

/** Resolves when agent and children are gone; false when nothing ran. */
export async function stopMesh(context: Pick<Context, "clock" | "data" | "connect">): Promise<boolean> {
  const { clock, data } = context;
  const host = await livingHost(data);
  if (host === undefined) return false;
  const agent = await context.connect(Agent, `unix:${host.socket}`);
  // The agent may be gone before its answer is read: what counts is that its process has ended.
  await agent.stop({}, { timeoutMs: STOP_MS }).catch(() => undefined);
  const untilMs = clock.monotonicMs() + STOP_MS;
  for (; await isAlive(host.agent); await clock.sleep(20)) {
    if (clock.monotonicMs() > untilMs)
      throw new MeshError("DM-6008", `the agent (pid ${host.agent.pid}) has not ended after ${STOP_MS / 1000} s`);
  }
  return true;
}
