// What a run trains on. Pure.
// M1 Segments that overlap a data fault are left out and named in `excluded`. M2 Nothing older than the window is used: everything since the
// change, and WINDOW_DAYS before it. M3 The registered training data is used while it overlaps the window.
import { canonicalJson } from "#kernel/base/bytes.ts";
import { DAY_MS } from "#kernel/domain/profile.ts";
import type { DataManifest, EpisodeState, RunState } from "#kernel/domain/state.ts";
import type { Pass, TrainingRange } from "../pass/door.ts";
import { descriptionOf, trackOf, versionsOf, type View } from "../world/door.ts";

/** Days before the change that a new version still sees, against forgetting. */
const WINDOW_DAYS = 28;
/** Days of a run by hand on a track that never changed. */
const HAND_DAYS = 56;
/** End of an episode that is still open. */
const OPEN_END_MS = 8_640_000_000_000_000;

export type ManifestOutcome = { kind: "ready"; sha256: string } | { kind: "waits"; reason: string } | { kind: "none" };

/** Stores the run's manifest with the pass's blobs. `waits` when the age of the training data is not known yet. */
export function manifestFor(pass: Pass, run: RunState): ManifestOutcome {
  const { draft } = pass;
  const description = descriptionOf(draft, run.model);
  const training = description?.trainingData;
  if (description === undefined) return { kind: "none" };
  const features = description.features.map(({ name, type }) => ({ name, type }));
  const base = { format: 1 as const, model: run.model, features };
  if (run.trigger === "registration") {
    if (training === undefined) return { kind: "none" };
    const file = { sha256: training.sha256, kind: "training" as const, fromMs: 0, toMs: 0, rows: 0 };
    return store(pass, { ...base, files: [file], excluded: [], changeMs: 0 });
  }
  const ordinal = trackOf(draft, run.model, run.scope)?.value.ordinal ?? 0;
  if (!pass.lookup.segmentsRead(run.id)) pass.wanted.segments.push({ run: run.id, ordinal });
  const ancestor = versionsOf(draft, run.model)[0];
  let range: TrainingRange | undefined;
  if (training !== undefined && ancestor !== undefined) {
    range = pass.lookup.trainingRange(ancestor.profileSha256);
    if (range === undefined) pass.wanted.profiles.add(ancestor.profileSha256);
  }
  if (pass.wanted.segments.length + pass.wanted.profiles.size > 0)
    return { kind: "waits", reason: "the labelled data are being looked up" };
  return store(pass, {
    ...base,
    ...selection(draft, run, training && range ? { sha256: training.sha256, ...range } : undefined),
  });
}

function store({ draft }: Pass, manifest: DataManifest): ManifestOutcome {
  if (manifest.files.length === 0) return { kind: "none" };
  return { kind: "ready", sha256: draft.blob(new TextEncoder().encode(canonicalJson(manifest))) };
}

type Training = { sha256: string } & TrainingRange;

/** Files, exclusions and change of a run that follows live traffic (M1-M3). */
function selection(
  view: View,
  run: Pick<RunState, "model" | "scope" | "episode">,
  training: Training | undefined,
): Pick<DataManifest, "files" | "excluded" | "changeMs"> {
  const ordinal = trackOf(view, run.model, run.scope)?.value.ordinal ?? 0;
  const episodes = view.of("episode", String(ordinal)).map(({ value }) => value);
  const changeMs = episodes.find(({ id }) => id === run.episode)?.fromMs ?? 0;
  const excluded = episodes
    .filter(isFault)
    .map((e) => ({
      fromMs: e.fromMs,
      toMs: e.toMs === 0 ? OPEN_END_MS : e.toMs,
      reason: `data fault, episode ${e.id}`,
    }))
    .sort((a, b) => a.fromMs - b.fromMs);
  const all = view
    .of("segment", String(ordinal))
    .map(({ value }) => value)
    .sort((a, b) => a.fromMs - b.fromMs);
  const newestMs = all.reduce((most, { toMs }) => Math.max(most, toMs), 0);
  const fromMs = windowStart(changeMs, episodes, newestMs);
  const overlaps = (a: { fromMs: number; toMs: number }): boolean =>
    excluded.some((b) => a.fromMs < b.toMs && b.fromMs < a.toMs);
  const segments = all
    .filter((segment) => segment.toMs > fromMs && !overlaps(segment))
    .map(({ sha256, fromMs: from, toMs, rows }) => ({ sha256, kind: "segment" as const, fromMs: from, toMs, rows }));
  const files: DataManifest["files"] =
    training !== undefined && training.toMs > fromMs
      ? [
          { sha256: training.sha256, kind: "training", fromMs: training.fromMs, toMs: training.toMs, rows: 0 },
          ...segments,
        ]
      : segments;
  return { files, excluded, changeMs };
}

/** A quality episode, also one of a single block: drift leaves that out of evidence, so training does. */
const isFault = (e: EpisodeState): boolean => e.class === "quality";

function windowStart(changeMs: number, episodes: readonly EpisodeState[], newestMs: number): number {
  if (changeMs > 0) return changeMs - WINDOW_DAYS * DAY_MS;
  const lastChangeMs = episodes.reduce((most, e) => (e.closedAs === "retrained" ? Math.max(most, e.fromMs) : most), 0);
  if (lastChangeMs > 0) return lastChangeMs - WINDOW_DAYS * DAY_MS;
  return newestMs === 0 ? 0 : newestMs - HAND_DAYS * DAY_MS;
}
