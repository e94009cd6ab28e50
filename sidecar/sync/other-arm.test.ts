import { expect, test } from "vitest";
import { create } from "@bufbuild/protobuf";
import { MemoryBlobs } from "#kernel/store/memory/blobs.ts";
import { silentLogger, type Logger } from "#kernel/process/log.ts";
import { ShadowSchema } from "#proto/driftmesh/internal/v1/sync_pb.ts";
import { loadOnnx, type Tensor } from "../runtime/door.ts";
import { brittleModel, logisticModel } from "../runtime/testing/onnx.ts";
import { chosen, OtherArm } from "./other-arm.ts";

test("rows are chosen at the rate, the same ones each time, and more of them at a higher rate", () => {
  const at = (rate: number): number[] =>
    Array.from({ length: 20_000 }, (_, number) => number).filter((number) => chosen(7, number, rate));
  const third = at(0.3);
  // Four standard deviations of a binomial of 20,000 at 0.3 are 259.
  expect(Math.abs(third.length - 6_000)).toBeLessThan(259);
  expect(at(0.3)).toEqual(third);
  const half = new Set(at(0.5));
  expect(third.every((number) => half.has(number))).toBe(true);
  expect(at(0)).toEqual([]);
  expect(at(1)).toHaveLength(20_000);
});

async function armWith(model: Uint8Array, said: string[], strict = false) {
  const blobs = new MemoryBlobs();
  const served = await loadOnnx(logisticModel([1, 1]));
  const log: Logger = {
    ...silentLogger(),
    info: (event) => said.push(event),
    error: (event) => said.push(event),
    warn: (event, fields) => said.push(`${event} ${String(fields?.["reason"])}`),
  };
  const arm = new OtherArm({ boot: 1, signature: served.signature, blobs, cpu: 1, strict, log });
  const artifactSha256 = await blobs.put(model);
  const order = (sha256: string, rate = 1) =>
    create(ShadowSchema, {
      rollout: "rol_1",
      rate,
      model: { version: 2, artifactSha256: sha256, scoreOutput: "probability" },
    });
  return { arm, order, artifactSha256 };
}
const rows = (n: number): Tensor[] => [{ name: "x", datatype: "FP32", shape: [n, 2], values: new Float32Array(n * 2) }];

test("scores of rows that were not chosen are NaN, and an ended order scores nothing", async () => {
  const said: string[] = [];
  const { arm, order, artifactSha256 } = await armWith(logisticModel([3, 4]), said);
  await arm.follow(order(artifactSha256, 0.5));
  const scored = await arm.score({ first: 1, rows: 64, inputs: rows(64) });
  expect(scored?.version).toBe(2);
  const expected = Array.from({ length: 64 }, (_, i) => (chosen(1, i + 1, 0.5) ? 0.5 : Number.NaN));
  expect([...(scored?.scores ?? [])]).toEqual(expected);
  await arm.follow(undefined);
  expect(await arm.score({ first: 1, rows: 64, inputs: rows(64) })).toBeUndefined();
});

test("an artifact that is missing or takes other inputs is refused once, and costs nothing else", async () => {
  const said: string[] = [];
  const { arm, order, artifactSha256 } = await armWith(brittleModel(), said);
  await arm.follow(order("0".repeat(64)));
  await arm.follow(order(artifactSha256));
  await arm.follow(order(artifactSha256));
  expect(said).toEqual(["sync.shadow-refused", "sync.shadow-refused"]);
  expect(await arm.score({ first: 1, rows: 1, inputs: rows(1) })).toBeUndefined();
});
