// One history of the mesh from one seed. R1 Between two timers everything that can go on has gone on: the order is the seed's alone.
// R2 Checkers see each event as it happens; the first finding ends the history. R3 After FAULTS_MS nothing goes wrong, and all must end within QUIET_MS.
import { createHash } from "node:crypto";
import { type Broken, watchWith } from "./checkers/checker.ts";
import { CHECKERS } from "./checkers/all.ts";
import { createMesh, type Sabotage } from "./mesh.ts";
import type { Stamped } from "./trace.ts";

/** Virtual time with faults, and the virtual time within which everything has to end afterwards. */
export const FAULTS_MS = 150_000;
export const QUIET_MS = 240_000;

export type SimOptions = { seed: number; heard?: (stamped: Stamped) => void; sabotage?: Sabotage };
export type SimResult = {
  seed: number;
  broken: Broken[];
  steps: number;
  virtualMs: number;
  /** SHA-256 of the history: equal for equal seeds. */
  digest: string;
  counts: Record<string, number>;
};

export async function simulate({ seed, heard, sabotage }: SimOptions): Promise<SimResult> {
  const mesh = createMesh(seed, sabotage ?? {});
  const { time, trace } = mesh;
  const { see, broken } = watchWith(CHECKERS);
  const history = createHash("sha256");
  const counts: Record<string, number> = {};
  trace.listen((stamped) => {
    history.update(JSON.stringify(stamped));
    count(counts, stamped);
    heard?.(stamped);
    see(stamped);
  });
  const startMs = time.wallMs();
  let steps = 0;
  const until = async (endMs: number): Promise<void> => {
    for (;;) {
      await settled();
      const next = time.nextMs();
      if (broken.length > 0 || next === undefined || next > endMs) return;
      time.step();
      steps += 1;
    }
  };
  mesh.start();
  await until(startMs + FAULTS_MS);
  if (broken.length === 0) {
    mesh.stopFaults();
    await until(startMs + FAULTS_MS + QUIET_MS);
  }
  if (broken.length === 0) {
    await mesh.finish();
    trace.add({ kind: "ended" });
  }
  mesh.close();
  await settled();
  return { seed, broken, steps, virtualMs: time.wallMs() - startMs, digest: history.digest("hex"), counts };
}

/** R1: immediates run when no microtask is left. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function count(counts: Record<string, number>, { event }: Stamped): void {
  const add = (name: string): void => {
    counts[name] = (counts[name] ?? 0) + 1;
  };
  if (event.kind === "write") add("writes");
  if (event.kind === "fenced") add("fenced");
  if (event.kind === "promised") add("promises");
  if (event.kind === "agent" && event.what === "run-started") add("runs");
  if (event.kind === "process" && /killed/.test(event.what)) add("kills");
  if (event.kind !== "write") return;
  for (const { key, before, after } of event.changes) {
    if (key.startsWith("rollout.") && before === undefined && after !== undefined) add("rollouts");
    if (key === "term.leader") add("terms");
  }
}
