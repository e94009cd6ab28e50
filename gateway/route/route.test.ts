// Peeking at the model's name, choosing an arm and a replica.
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { seededRand } from "#kernel/base/rand.ts";
import { RoutesSchema } from "#proto/driftmesh/internal/v1/sync_pb.ts";
import { ModelInferRequestSchema, ModelReadyRequestSchema } from "#proto/inference/grpc_service_pb.ts";
import { peekName } from "./peek.ts";
import { pickOf } from "./pick.ts";
import { routeTable } from "./table.ts";

const LIMIT = 64 << 20;

function frame(message: Uint8Array, flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}
const infer = (modelName: string, rawBytes = 0): Uint8Array =>
  toBinary(
    ModelInferRequestSchema,
    create(ModelInferRequestSchema, { modelName, id: "x", rawInputContents: [new Uint8Array(rawBytes)] }),
  );

describe("peeking", () => {
  test("finds the name of any request, whole or as soon as enough of it is there", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", minLength: 1 }), fc.nat(2_000), (name, rawBytes) => {
        const request = frame(infer(name, rawBytes));
        expect(peekName(request, LIMIT)).toEqual({ kind: "name", name });
        for (let bytes = 0; bytes < Math.min(request.length, 40); bytes++) {
          const seen = peekName(request.subarray(0, bytes), LIMIT);
          if (seen.kind === "more") expect(seen.bytes).toBeGreaterThan(bytes);
          else expect(seen).toEqual({ kind: "name", name });
        }
      }),
    );
  });

  test("finds a name that comes after everything else", () => {
    const name = toBinary(ModelReadyRequestSchema, create(ModelReadyRequestSchema, { name: "late" }));
    const rest = infer("", 300_000);
    const request = frame(Buffer.concat([rest, name]));
    expect(peekName(request, LIMIT)).toEqual({ kind: "name", name: "late" });
    expect(peekName(request.subarray(0, 1_000), LIMIT).kind).toBe("more");
  });

  test("never throws and never reads beyond what is there, whatever the bytes are", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const seen = peekName(frame(bytes), LIMIT);
        expect(["name", "malformed"]).toContain(seen.kind);
        peekName(bytes, LIMIT);
      }),
      { numRuns: 1_000 },
    );
  });

  test("tells messages that are empty, compressed, too large or malformed apart", () => {
    expect(peekName(frame(new Uint8Array(0)), LIMIT)).toEqual({ kind: "name", name: "" });
    expect(peekName(frame(infer("a"), 1), LIMIT)).toMatchObject({ kind: "compressed" });
    expect(peekName(frame(infer("a")), 3)).toMatchObject({ kind: "too-large" });
    expect(peekName(frame(infer("a"), 7), LIMIT)).toMatchObject({ kind: "malformed" });
    expect(peekName(frame(Uint8Array.of(10, 200)), LIMIT)).toMatchObject({ kind: "malformed" });
  });
});

describe("routes", () => {
  const NOW_MS = 1_000_000;
  const ROUTES = {
    routes: [
      {
        model: "flights",
        validUntilMs: BigInt(NOW_MS + 60_000),
        arms: [
          { version: 1, weight: 75, endpoints: ["a:1"] },
          { version: 2, weight: 25, endpoints: ["b:1"] },
        ],
      },
      { model: "cold", arms: [{ version: 1, weight: 100, endpoints: [] }] },
    ],
    deployments: [
      { id: "dep_follow", model: "flights", follows: true },
      { id: "dep_pinned", model: "flights", endpoints: ["c:1"], state: "Ready" },
      { id: "dep_waits", model: "flights", state: "Pending" },
      { id: "dep_strict", model: "scans", strictNode: "clinic", state: "Ready" },
    ],
    tracks: [
      { ordinal: 1, model: "flights", scope: "open" },
      { ordinal: 2, model: "scans", scope: "node/clinic" },
    ],
  };
  const table = routeTable(create(RoutesSchema, ROUTES));
  const decide = (name: string, nowMs = NOW_MS, seed = 1) => table.decide(name, nowMs, seededRand(seed));

  test("arms get the share of their weight while the weights are valid, and all goes to the first one after that", () => {
    const rand = seededRand(7);
    const share = (nowMs: number): number =>
      Array.from({ length: 4_000 }, () => table.decide("flights", nowMs, rand)).filter(
        (decision) => decision.kind === "endpoints" && decision.endpoints[0] === "b:1",
      ).length / 4_000;
    expect(share(NOW_MS)).toBeGreaterThan(0.22);
    expect(share(NOW_MS)).toBeLessThan(0.28);
    expect(share(NOW_MS + 60_001)).toBe(0);
  });

  test("an arm without replicas gives its share to the first arm that has some", () => {
    const [flights] = ROUTES.routes;
    const [first, second] = flights?.arms ?? [];
    const broken = create(RoutesSchema, {
      routes: [{ ...flights, arms: [{ ...first, endpoints: [] }, { ...second }] }],
    });
    const rand = seededRand(3);
    for (let i = 0; i < 50; i++)
      expect(routeTable(broken).decide("flights", NOW_MS, rand)).toMatchObject({ endpoints: ["b:1"] });
  });

  test("a deployment follows its model or has its own replicas", () => {
    expect(decide("dep_follow")).toMatchObject({ kind: "endpoints", model: "flights" });
    expect(decide("dep_pinned")).toMatchObject({ kind: "endpoints", endpoints: ["c:1"] });
  });

  test.each([
    ["nobody", "DM-3002", undefined, '"nobody"'],
    ["dep_nobody", "DM-3002", undefined, "dep_nobody"],
    ["cold", "DM-3003", "cold", '"cold"'],
    ["dep_waits", "DM-3003", "flights", "Pending"],
    ["dep_strict", "DM-3005", "scans", '"clinic"'],
    ["scans", "DM-3005", "scans", '"clinic"'],
  ])("%s is refused with %s", (name, fault, model, says) => {
    expect(decide(name)).toMatchObject({
      kind: "refused",
      model,
      error: { fault, message: expect.stringContaining(says) },
    });
  });
});

describe("picking a replica", () => {
  test("prefers the less loaded one and leaves out those that rest", () => {
    const rand = seededRand(5);
    const loads = [
      { inFlight: 9, restUntilMs: 0 },
      { inFlight: 0, restUntilMs: 100 },
      { inFlight: 1, restUntilMs: 0 },
    ];
    const picks = Array.from({ length: 400 }, () => pickOf(loads, 50, rand));
    expect(new Set(picks)).toEqual(new Set([0, 2]));
    expect(picks.filter((pick) => pick === 2).length).toBeGreaterThan(250);
    expect(pickOf([{ inFlight: 0, restUntilMs: 99 }], 50, rand)).toBe(0);
    expect(pickOf([], 50, rand)).toBeUndefined();
  });

  test("all of them rest: one is taken nevertheless", () => {
    const loads = [1, 2].map(() => ({ inFlight: 0, restUntilMs: 100 }));
    expect(pickOf(loads, 50, seededRand(1))).toBeTypeOf("number");
  });
});
