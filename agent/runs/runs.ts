// The runs that are wanted, and how far each attempt is.
// U1 An attempt is begun once, ever. U2 What ended stays told until it is wanted no more. U3 What is no longer wanted is killed at once.
import { create, fromJsonString, toJsonString } from "@bufbuild/protobuf";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { ProcessMark } from "#kernel/domain/host.ts";
import { messageOf } from "#kernel/fault/error.ts";
import type { Logger } from "#kernel/process/log.ts";
import { type ObservedRun, ObservedRunSchema, type WantedRun } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { execute, type ExecuteOptions } from "./execute.ts";
import { beginFolder, readResult, runFolder, slimFolder, writeResult } from "./folder.ts";
import { cancelled } from "./limited.ts";

/** Begins the reason of a run whose agent went away: the leader counts another attempt. */
const MACHINE_LOST = "machine lost";

export type RunsOptions = Omit<ExecuteOptions, "phase" | "started"> & {
  log: Logger;
  /** Folder of all nodes; a run works in `<nodes>/<node>/runs/<run>-<attempt>`. */
  nodes: string;
  changed: () => void;
};

type Run = { told: ObservedRun; node: string; marks: ProcessMark[]; stop: AbortController; living: Promise<void> };

export class Runs {
  readonly #options: RunsOptions;
  readonly #runs = new Map<string, Run>();
  #closed = false;

  constructor(options: RunsOptions) {
    this.#options = options;
  }

  /** The whole wanted set. */
  apply(wanted: readonly WantedRun[]): void {
    if (this.#closed) return;
    const keys = new Set(wanted.map(keyOf));
    for (const [key, run] of this.#runs) {
      if (keys.has(key)) continue;
      this.#runs.delete(key);
      run.stop.abort(cancelled());
      run.living = run.living.then(() => rm(this.#folder(run.node, key), { recursive: true, force: true }));
      this.#ending.add(run.living);
      void run.living.finally(() => this.#ending.delete(run.living));
    }
    for (const one of wanted) if (!this.#runs.has(keyOf(one))) this.#begin(one);
    this.#options.changed();
  }
  readonly #ending = new Set<Promise<void>>();

  seen(): ObservedRun[] {
    return [...this.#runs.values()].map(({ told }) => told);
  }

  /** Processes of runs, for agent.json. */
  marks(): (ProcessMark & { name: string })[] {
    return [...this.#runs].flatMap(([key, { marks }]) => marks.map((mark) => ({ ...mark, name: `run/${key}` })));
  }

  /** Kills all of them; resolves when their processes are gone. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { stop } of this.#runs.values()) stop.abort(cancelled());
    await Promise.all([...[...this.#runs.values()].map(({ living }) => living), ...this.#ending]);
  }

  #begin(wanted: WantedRun): void {
    const told = create(ObservedRunSchema, { id: wanted.id, attempt: wanted.attempt, phase: "running" });
    const run: Run = { told, node: wanted.node, marks: [], stop: new AbortController(), living: Promise.resolve() };
    this.#runs.set(keyOf(wanted), run);
    run.living = this.#live(run, wanted).catch((thrown: unknown) => {
      this.#options.log.error("run.failed", { run: wanted.id, error: thrown });
      this.#tell(run, { ...told, phase: "failed", reason: messageOf(thrown) });
    });
  }

  async #live(run: Run, wanted: WantedRun): Promise<void> {
    const { log, changed } = this.#options;
    const folder = runFolder(this.#folder(wanted.node, keyOf(wanted)));
    if (!(await beginFolder(folder))) {
      const earlier = await readResult(folder);
      const reason = `${MACHINE_LOST}: its agent ended while it ran`;
      return this.#tell(
        run,
        earlier === undefined ? { ...run.told, phase: "failed", reason } : fromJsonString(ObservedRunSchema, earlier),
      );
    }
    log.info("run.started", { run: wanted.id, attempt: wanted.attempt, node: wanted.node });
    const options = {
      ...this.#options,
      phase: (phase: string) => this.#tell(run, { ...run.told, phase }),
      started: (mark: ProcessMark) => {
        run.marks.push(mark);
        changed();
      },
    };
    const result = await execute(options, wanted, folder, run.stop.signal);
    run.marks = [];
    // Stopped by the agent's own end: no result is written, so the next agent tells it as lost.
    if (!(this.#closed && run.stop.signal.aborted)) await writeResult(folder, toJsonString(ObservedRunSchema, result));
    await slimFolder(folder);
    log.info("run.ended", { run: wanted.id, attempt: wanted.attempt, phase: result.phase, reason: result.reason });
    this.#tell(run, result);
  }

  #tell(run: Run, told: ObservedRun): void {
    run.told = told;
    this.#options.changed();
  }

  #folder(node: string, key: string): string {
    return join(this.#options.nodes, node, "runs", key);
  }
}

const keyOf = ({ id, attempt }: { id: string; attempt: number }): string => `${id}-${attempt}`;

/** Removes the folders of attempts that nobody wants any more: called once the first wanted set is known. */
export async function forgetRuns(nodes: string, wanted: readonly WantedRun[]): Promise<void> {
  const keep = new Set(wanted.map(keyOf));
  for (const node of await readdir(nodes).catch(() => [])) {
    const folder = join(nodes, node, "runs");
    for (const name of await readdir(folder).catch(() => []))
      if (!keep.has(name)) await rm(join(folder, name), { recursive: true, force: true });
  }
}
