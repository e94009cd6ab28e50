// Stage: offers, acknowledgements and releases. Where a deployment stands otherwise is decided in status.ts.
// O1 An acknowledgement that the API took in time counts, even when the leader sees it late: an offer expires by creating the key of the
//    acknowledgement, so that exactly one of the two happens.
import { KEYS, type DeploymentStatus } from "#kernel/domain/state.ts";
import type { Pass } from "../pass/door.ts";
import { type Deployment, deployments, scopeOf } from "../world/door.ts";

/** The API compares the expiry with its own clock; another instance's may differ by this much. */
const MARGIN_MS = 5_000;

export function offers(pass: Pass): void {
  for (const deployment of deployments(pass.draft)) {
    if (pass.draft.full) return;
    const step = stepOf(deployment, pass.nowMs);
    if (step !== undefined) takeStep(pass, deployment, step);
  }
}

type Move = { to: DeploymentStatus["state"]; reason: string };

function stepOf({ spec, ack, end, status }: Deployment, nowMs: number): Move | undefined {
  switch (status?.state) {
    case undefined:
      return { to: "Offered", reason: "acknowledge it, or let it expire" };
    case "Offered":
      if (ack !== undefined) return { to: "Pending", reason: "in the queue" };
      if (end !== undefined) return { to: "Expired", reason: "withdrawn before it was acknowledged" };
      return nowMs > spec.offerExpiresMs + MARGIN_MS
        ? { to: "Expired", reason: "nobody acknowledged it in time" }
        : undefined;
    case "Pending":
    case "Starting":
    case "Ready":
    case "Degraded":
      return end === undefined ? undefined : { to: "Releasing", reason: "released" };
    case "Releasing":
      return { to: "Released", reason: "released" };
    case "Expired":
    case "Released":
      return undefined;
  }
}

const NEW: DeploymentStatus = {
  state: "Offered",
  reason: "",
  queuePosition: 0,
  version: 0,
  workload: "",
  endpoint: "",
  changedMs: 0,
};

function takeStep({ draft, nowMs }: Pass, { spec, status }: Deployment, { to, reason }: Move): void {
  const key = KEYS.deploymentStatus(spec.id);
  const step = { model: spec.model, scope: scopeOf(spec), to, reason };
  if (status === undefined) draft.begin("deployment", key, step);
  else if (!draft.arrow("deployment", key, { ...step, from: status.state })) return;
  const gone = to === "Releasing" || to === "Released" ? { endpoint: "", queuePosition: 0 } : {};
  if (to === "Expired")
    draft.put("ack", KEYS.deploymentAck(spec.id), { createdMs: nowMs, principal: "", expired: true });
  draft.put("status", key, { ...(status ?? NEW), ...gone, state: to, reason, changedMs: nowMs });
}
