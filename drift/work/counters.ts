// Owns the names of what the drift service counts. Labels are bounded.
import type { Metrics } from "#kernel/process/metrics.ts";
import type { LabelFate } from "../join/door.ts";

export type DriftCounters = {
  rows(count: number): void;
  label(fate: LabelFate): void;
  malformed(stream: "records" | "feedback" | "panes"): void;
  saved(loop: "join" | "verdicts", tookMs: number): void;
  decision(kind: "verdict" | "episode" | "evidence"): void;
};

/** Counts nothing: for simulations. */
export const noCounters: DriftCounters = { rows() {}, label() {}, malformed() {}, saved() {}, decision() {} };

export function driftCounters(metrics: Metrics): DriftCounters {
  const rows = metrics.counter("driftmesh_drift_rows_total", "Rows that came to the join.");
  const labels = metrics.counter("driftmesh_drift_labels_total", "Labels by what became of them.", ["fate"]);
  const malformed = metrics.counter("driftmesh_drift_malformed_total", "Messages that could not be read.", ["stream"]);
  const seconds = metrics.histogram(
    "driftmesh_drift_save_seconds",
    "Time to save.",
    [0.005, 0.02, 0.1, 0.5, 2],
    ["loop"],
  );
  const decisions = metrics.counter("driftmesh_drift_decisions_total", "Decisions made.", ["kind"]);
  return {
    rows: (count) => rows.inc({}, count),
    label: (fate) => labels.inc({ fate }),
    malformed: (stream) => malformed.inc({ stream }),
    saved: (loop, tookMs) => seconds.observe({ loop }, tookMs / 1_000),
    decision: (kind) => decisions.inc({ kind }),
  };
}
