// Waiting for what was ordered: pulls a watch until the thing is where it should be, telling each step once.
import type { Client } from "@connectrpc/connect";
import { MeshError } from "#kernel/fault/error.ts";
import {
  type Deployment,
  DeploymentState,
  DeploymentStateSchema,
  type Deployments,
} from "#proto/driftmesh/v1/deployments_pb.ts";
import { type Retraining, type Run, RunPhase, RunPhaseSchema } from "#proto/driftmesh/v1/retraining_pb.ts";
import { wordOf } from "./words.ts";

export type Wait = { signal: AbortSignal; step: (text: string) => void };

/** The run at its end; a failed or cancelled one is an error that carries its reason. */
export async function awaitRun(client: Client<typeof Retraining>, id: string, wait: Wait): Promise<Run> {
  let last = "";
  using watch = watching(wait);
  for await (const run of client.watchRun({ id }, watch.options)) {
    const text = `run ${id}: ${wordOf(RunPhaseSchema, run.phase)}${run.reason === "" ? "" : `, ${run.reason}`}`;
    if (text !== last) wait.step((last = text));
    if (run.phase === RunPhase.SUCCEEDED) return run;
    if (run.phase === RunPhase.FAILED || run.phase === RunPhase.CANCELLED)
      throw new MeshError("DM-5004", `run ${id} ${wordOf(RunPhaseSchema, run.phase)}: ${run.reason}`);
  }
  throw new MeshError("DM-6007", `the watch of run ${id} ended before the run did`);
}

/** The deployment once it is Ready; Expired or Released first is an error. */
export function awaitReady(client: Client<typeof Deployments>, id: string, wait: Wait): Promise<Deployment> {
  return awaitState(client, id, wait, [DeploymentState.READY]);
}

/** The deployment once it is Released. */
export function awaitReleased(client: Client<typeof Deployments>, id: string, wait: Wait): Promise<Deployment> {
  return awaitState(client, id, wait, [DeploymentState.RELEASED]);
}

async function awaitState(
  client: Client<typeof Deployments>,
  id: string,
  wait: Wait,
  wanted: readonly DeploymentState[],
): Promise<Deployment> {
  let last = "";
  let state = "";
  using watch = watching(wait);
  for await (const deployment of client.watchDeployment({ id }, watch.options)) {
    state = wordOf(DeploymentStateSchema, deployment.state);
    const why = deployment.reason === "" || deployment.reason === state ? "" : `, ${deployment.reason}`;
    const text = `deployment ${id}: ${state}${why}`;
    if (text !== last) wait.step((last = text));
    if (wanted.includes(deployment.state)) return deployment;
  }
  throw new MeshError("DM-2007", `deployment ${id} ended as ${state}`);
}

/** Options of a watch that is cancelled when its reader leaves: leaving the loop alone would keep the connection, and us, alive. */
function watching(wait: Wait): Disposable & { options: { signal: AbortSignal; timeoutMs: number } } {
  const left = new AbortController();
  const signal = AbortSignal.any([wait.signal, left.signal]);
  return { options: { signal, timeoutMs: 0 }, [Symbol.dispose]: () => left.abort() };
}
