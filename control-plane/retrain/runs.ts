// Stage: runs are admitted when there is room, followed, and turned into versions.
// A1 At most two attempts: a machine that was lost is no fault of the train code. A2 One run and one rollout of a track at a time.
// A3 What a success brings about is one batch: version, alias, rollout, the run's end.
import { DAY_MS } from "#kernel/domain/profile.ts";
import { derivedId } from "#kernel/domain/ids.ts";
import type { Version } from "#kernel/domain/model.ts";
import { KEYS, type RunPhase, type RunState } from "#kernel/domain/state.ts";
import { MACHINE_LOST, type RunReport } from "../backend/door.ts";
import { encode, type Pass, shortened, trainResources } from "../pass/door.ts";
import { moveAlias } from "../registry/door.ts";
import { refusalText } from "../scheduler/door.ts";
import { championOf, descriptionOf, eventClock, liveRollout, RUN_ENDED, trackOf, versionsOf } from "../world/door.ts";
import { manifestFor } from "./manifest.ts";

const ATTEMPTS_MAX = 2;
const LOST_MS = 60_000;
/** A version's value must stay below the store's 64 KiB. */
const VERSION_BYTES_MAX = 60_000;

export function runs(pass: Pass): void {
  const { draft } = pass;
  const open = draft
    .all("run")
    .flatMap(({ value }) => (RUN_ENDED.has(value.phase) ? [] : [value]))
    .sort((a, b) => a.createdMs - b.createdMs || (a.id < b.id ? -1 : 1));
  for (const run of open) {
    if (draft.full) return;
    if (run.phase === "Pending") admit(pass, run);
    else followRun(pass, run);
  }
}

function admit(pass: Pass, run: RunState): void {
  const { draft } = pass;
  const refused = refusal(pass, run);
  if (refused !== undefined) return move(pass, run, "Failed", { reason: refused });
  const busy = busyWith(pass, run);
  if (busy !== undefined) return wait(pass, run, busy);
  const manifest =
    run.manifestSha256 === "" ? manifestFor(pass, run) : { kind: "ready" as const, sha256: run.manifestSha256 };
  if (manifest.kind === "waits") return wait(pass, run, manifest.reason);
  if (manifest.kind === "none" && descriptionOf(draft, run.model)?.trainCode !== undefined)
    return move(pass, run, "Failed", {
      reason: "there is nothing to train on: no training data and no labelled segment in the window",
    });
  if (pass.observed?.connected !== true) return wait(pass, run, "no agent answers");
  const placement = pass.room.place(run.scope, trainResources(draft, run.model));
  if (placement.kind === "nowhere") return wait(pass, run, refusalText(placement.refusals, run.scope));
  const manifestSha256 = manifest.kind === "ready" ? manifest.sha256 : "";
  move(pass, run, "Running", { reason: "", attempt: run.attempt + 1, node: placement.node, manifestSha256 });
}

/** Why it will never be run here. */
function refusal({ draft, refuses }: Pass, run: RunState): string | undefined {
  const description = descriptionOf(draft, run.model);
  if (description === undefined) return `model ${run.model} is not there`;
  if (run.scope !== "open")
    return "runs of strict tracks need a sandbox without network, which is not built yet (DM-7001)";
  if (description.trainCode?.kind === "git")
    return "train code by git is stored, but running it is not built yet (DM-7001): give a folder";
  const { runtime, image } = description.inference;
  return refuses({ runtime, ...(image === undefined ? {} : { image }) });
}

/** What else of this track is under way (A2). */
function busyWith({ draft }: Pass, run: RunState): string | undefined {
  const other = draft
    .of("run", run.model)
    .find(({ value }) => value.scope === run.scope && (value.phase === "Running" || value.phase === "Checking"));
  if (other !== undefined) return `waits for run ${other.value.id}`;
  const rollout = liveRollout(draft, run.model, run.scope);
  return rollout === undefined ? undefined : `waits for rollout ${rollout.value.id}`;
}

function wait({ draft }: Pass, run: RunState, reason: string): void {
  const key = KEYS.run(run.id);
  if (draft.hasMoved(key)) return;
  draft.put("run", key, { ...run, reason: shortened(reason) });
}

function followRun(pass: Pass, run: RunState): void {
  const { observed, nowMs } = pass;
  if (observed === undefined) return;
  const report = observed.runs.find(({ id, attempt }) => id === run.id && attempt === run.attempt);
  if (report !== undefined) return follow(pass, run, report);
  const silent = !observed.connected && nowMs - observed.sinceMs > LOST_MS;
  const nodeGone = observed.connected && !observed.nodes.some(({ name }) => name === run.node);
  if (silent || nodeGone) lost(pass, run, `${MACHINE_LOST}: node ${run.node} is gone`);
}

function follow(pass: Pass, run: RunState, report: RunReport): void {
  const ended = { logSha256: report.logSha256 };
  switch (report.phase) {
    case "running":
      return;
    case "checking":
      return move(pass, run, "Checking", { reason: "the new model is loaded and measured" });
    case "succeeded":
      // One arrow at a time (D2): a quick check may be over before it was seen.
      if (run.phase === "Running")
        return move(pass, run, "Checking", { reason: "the new model is loaded and measured" });
      return succeed(pass, run, report);
    case "failed":
      if (report.reason.startsWith(MACHINE_LOST)) return lost(pass, run, report.reason);
      return move(pass, run, "Failed", { reason: report.reason || "no reason given", ...ended });
  }
}

function lost(pass: Pass, run: RunState, reason: string): void {
  if (run.phase === "Running" && run.attempt < ATTEMPTS_MAX)
    return move(pass, run, "Pending", { reason: `${reason}; tried again`, node: "" });
  move(pass, run, "Failed", { reason: run.phase === "Running" ? `${reason}, ${run.attempt} times` : reason });
}

function succeed(pass: Pass, run: RunState, report: RunReport): void {
  const { draft, nowMs } = pass;
  const version = nextVersion(pass, run, report);
  if (typeof version === "string") return move(pass, run, "Failed", { reason: version, logSha256: report.logSha256 });
  const { model, scope } = run;
  const numbers = version.metrics;
  draft.put("version", KEYS.version(model, version.version), version);
  draft.event({
    kind: "version",
    key: KEYS.version(model, version.version),
    model,
    scope,
    from: "",
    to: String(version.version),
    numbers,
  });
  const champion = championOf(draft, model, scope);
  if (champion === 0)
    moveAlias(pass, { model, scope, alias: "champion", version: version.version, reason: "the first version" });
  else {
    moveAlias(pass, { model, scope, alias: "challenger", version: version.version, reason: `made by run ${run.id}` });
    beginRollout(pass, run, champion, version.version);
  }
  const metrics = Object.fromEntries(Object.entries(version.metrics).slice(0, 200));
  move(pass, run, "Succeeded", {
    reason: "",
    version: version.version,
    metrics,
    logSha256: report.logSha256,
    changedMs: nowMs,
  });
}

/** The version that the report describes, or why it is none. */
function nextVersion({ draft, nowMs }: Pass, run: RunState, report: RunReport): Version | string {
  const { load } = report;
  const description = descriptionOf(draft, run.model);
  if (description === undefined) return `model ${run.model} is not there`;
  if (load === undefined || report.artifactSha256 === "" || report.profileSha256 === "")
    return "the check said nothing of the model it loaded";
  const number = (versionsOf(draft, run.model).at(-1)?.version ?? 0) + 1;
  const found = load.features.map(({ name, type }) => ({ name, type }));
  const version: Version = {
    model: run.model,
    version: number,
    artifactSha256: report.artifactSha256,
    artifactBytes: report.artifactBytes,
    profileSha256: report.profileSha256,
    signature: load.signature,
    features: found.length > 0 ? found : description.features.map(({ name, type }) => ({ name, type })),
    scoreOutput: load.scoreOutput,
    scoreKind: load.scoreKind === "value" ? "value" : "probability",
    metrics: report.metrics,
    origin: originOf(run, description.trainCode !== undefined),
    createdMs: nowMs,
  };
  if (encode(version).byteLength > VERSION_BYTES_MAX)
    return "the model's signature and features take more than 60,000 bytes of description";
  return version;
}

function originOf(run: RunState, trained: boolean): Version["origin"] {
  if (!trained) return { kind: "upload" };
  const { id, trigger, episode, manifestSha256 } = run;
  return { kind: "run", run: id, trigger, ...(episode === "" ? {} : { episode }), dataManifestSha256: manifestSha256 };
}

function beginRollout({ draft, nowMs }: Pass, run: RunState, champion: number, challenger: number): void {
  const { model, scope } = run;
  const id = derivedId("rol", run.id);
  const asked = Number(draft.get("order", KEYS.order(run.order))?.value.evidence["shadow_days"] ?? 0);
  const shadowDays = asked > 0 ? asked : (descriptionOf(draft, model)?.policy.shadowDays ?? 0);
  draft.begin("rollout", KEYS.rollout(id), {
    model,
    scope,
    to: "Preparing",
    reason: `version ${challenger} by run ${run.id}`,
  });
  draft.put("rollout", KEYS.rollout(id), {
    id,
    model,
    scope,
    champion,
    challenger,
    stage: "Preparing",
    frozenFrom: "",
    reason: `version ${challenger} is being started`,
    run: run.id,
    ...(run.episode === "" ? {} : { episode: run.episode }),
    stageEventMs: 0,
    shadowDays,
    numbers: {},
    createdMs: nowMs,
    changedMs: nowMs,
  });
}

function move(pass: Pass, run: RunState, to: RunPhase, patch: Partial<RunState>): void {
  const { draft, nowMs } = pass;
  const key = KEYS.run(run.id);
  const reason = shortened(patch.reason ?? run.reason);
  const step = { model: run.model, scope: run.scope, from: run.phase, to, reason };
  if (to === run.phase || !draft.arrow("run", key, { ...step, numbers: patch.metrics ?? {} })) return;
  draft.put("run", key, { ...run, ...patch, reason, phase: to, changedMs: nowMs });
  if (to === "Failed" && run.trigger !== "registration") coolDown(pass, run);
}

/** Days of event time without another order by policy begin when one ended. */
export function coolDown({ draft }: Pass, { model, scope }: Pick<RunState, "model" | "scope">): void {
  const track = trackOf(draft, model, scope);
  const days = descriptionOf(draft, model)?.policy.cooldownDays ?? 0;
  if (track === undefined) return;
  const nowMs = eventClock(draft, track.value.ordinal);
  if (nowMs > 0) draft.put("track", track.key, { ...track.value, cooldownUntilMs: nowMs + days * DAY_MS });
}
