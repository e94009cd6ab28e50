// The other arm of a rollout, scored by the same sidecar after it has answered.
// M1 Which rows are scored is a hash of boot and number: every process that knows the rate agrees, and no clock or order matters.
// M2 The other arm never touches an answer: what goes wrong with it is logged once per order and costs its scores only.
// M3 An artifact is used only when its hash is what was ordered, and its inputs are those of the served model.
import type { Signature } from "#kernel/domain/model.ts";
import { MeshError, messageOf } from "#kernel/fault/error.ts";
import type { Logger } from "#kernel/process/log.ts";
import type { Blobs } from "#kernel/store/ports.ts";
import type { Shadow } from "#proto/driftmesh/internal/v1/sync_pb.ts";
import { loadOnnx, scoresOf, selectRows, type Runtime, type Tensor } from "../runtime/door.ts";

export type Answered = { first: number; rows: number; inputs: readonly Tensor[] };
export type ArmScores = { version: number; scores: Float32Array };
export type OtherArmDeps = {
  boot: number;
  signature: Signature;
  blobs: Blobs;
  cpu: number;
  strict: boolean;
  log: Logger;
};

type Loaded = { key: string; version: number; rate: number; scoreOutput: string; runtime: Runtime; warned: boolean };

/** Whether the row is scored by both arms at this rate (M1). */
export function chosen(boot: number, number: number, rate: number): boolean {
  if (rate >= 1) return true;
  let z = (Math.imul(boot, 0x9e3779b9) ^ Math.imul(number % 2 ** 32, 0x85ebca6b) ^ Math.floor(number / 2 ** 32)) | 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32 < rate;
}

export class OtherArm {
  readonly #deps: OtherArmDeps;
  #loaded: Loaded | undefined;
  #failedKey = "";

  constructor(deps: OtherArmDeps) {
    this.#deps = deps;
  }

  get version(): number {
    return this.#loaded?.version ?? 0;
  }

  /** Follows an order; undefined ends it. What cannot be loaded is not tried again until the order changes. */
  async follow(order: Shadow | undefined): Promise<void> {
    const { log } = this.#deps;
    const model = order?.model;
    const key = model === undefined ? "" : `${model.version} ${model.artifactSha256} ${model.scoreOutput}`;
    if (order !== undefined && model !== undefined && this.#loaded?.key === key) {
      this.#loaded.rate = order.rate;
      return;
    }
    const before = this.#loaded;
    this.#loaded = undefined;
    await before?.runtime[Symbol.asyncDispose]();
    if (order === undefined || model === undefined || key === this.#failedKey) return;
    try {
      const runtime = await this.#load(model.artifactSha256);
      const { version, scoreOutput } = model;
      this.#loaded = { key, version, rate: order.rate, scoreOutput, runtime, warned: false };
      log.info("sync.shadow-began", { version, rollout: order.rollout, rate: order.rate });
    } catch (error) {
      // A blob may still arrive; everything else stays wrong until the order changes.
      if (!(error instanceof MeshError && error.fault === "DM-2011")) this.#failedKey = key;
      log.error("sync.shadow-refused", { version: model.version, rollout: order.rollout, reason: messageOf(error) });
    }
  }

  /** Scores of the chosen rows, NaN for the others; undefined when there is nothing to score. */
  async score(call: Answered): Promise<ArmScores | undefined> {
    const arm = this.#loaded;
    if (arm === undefined) return undefined;
    const rows: number[] = [];
    for (let row = 0; row < call.rows; row++) if (chosen(this.#deps.boot, call.first + row, arm.rate)) rows.push(row);
    if (rows.length === 0) return undefined;
    const all = rows.length === call.rows;
    try {
      const outputs = await arm.runtime.infer(all ? call.inputs : call.inputs.map((input) => selectRows(input, rows)));
      const scores = scoresOf(outputs, arm.scoreOutput, rows.length);
      if (all) return { version: arm.version, scores };
      const spread = new Float32Array(call.rows).fill(Number.NaN);
      rows.forEach((row, i) => (spread[row] = scores[i] ?? Number.NaN));
      return { version: arm.version, scores: spread };
    } catch (error) {
      if (!arm.warned) {
        const reason = this.#deps.strict ? "withheld in strict mode" : messageOf(error);
        this.#deps.log.warn("sync.shadow-failed", { version: arm.version, reason });
      }
      arm.warned = true;
      return { version: arm.version, scores: new Float32Array(call.rows).fill(Number.NaN) };
    }
  }

  async close(): Promise<void> {
    await this.follow(undefined);
  }

  /** M3. */
  async #load(sha256: string): Promise<Runtime> {
    const content = await this.#deps.blobs.get(sha256);
    if (content === undefined) throw new MeshError("DM-2011", `the artifact ${sha256} is not among the blobs`);
    const runtime = await loadOnnx(content, this.#deps.cpu);
    const misfit = difference(this.#deps.signature, runtime.signature);
    if (misfit === undefined) return runtime;
    await runtime[Symbol.asyncDispose]();
    throw new MeshError("DM-5002", `the other arm cannot take this model's inputs: ${misfit}`);
  }
}

function difference(served: Signature, other: Signature): string | undefined {
  if (other.inputs.length !== served.inputs.length)
    return `${other.inputs.length} inputs instead of ${served.inputs.length}`;
  for (const input of other.inputs) {
    const mine = served.inputs.find(({ name }) => name === input.name);
    if (mine === undefined) return `input ${input.name} is not known`;
    const same = mine.datatype === input.datatype && mine.shape.join() === input.shape.join();
    if (!same) return `input ${input.name} is ${input.datatype} [${input.shape.join(",")}]`;
  }
  return undefined;
}
