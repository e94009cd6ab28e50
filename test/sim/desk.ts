// What users ask of the control plane, and how a call reaches an instance of it.
import type { VirtualClock } from "#kernel/base/clock.ts";
import { canonicalJson } from "#kernel/base/bytes.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { derivedId } from "#kernel/domain/ids.ts";
import { DEFAULT_POLICY } from "#kernel/domain/model.ts";
import { KEYS } from "#kernel/domain/state.ts";
import { MeshError } from "#kernel/fault/error.ts";
import type { Write } from "#kernel/store/ports.ts";
import type { Network } from "./network.ts";
import { SimProcess } from "./process.ts";
import type { ControlPlane } from "./services.ts";
import type { Slot } from "./slot.ts";

/** Each rejects with a MeshError: refused for good, or to be asked again. */
export type Desk = {
  register(requestId: string, model: string, trained: boolean): Promise<string>;
  requestDeployment(requestId: string, wish: { model: string; replicas: number; version: number; node: string }): Promise<string>;
  acknowledge(id: string): Promise<void>;
  release(id: string): Promise<void>;
  orderRun(requestId: string, model: string): Promise<string>;
  decide(requestId: string, rollout: string, word: "promote" | "reject"): Promise<string>;
};

const PATIENCE_MS = 15_000;
const enc = (v: unknown): Uint8Array => new TextEncoder().encode(canonicalJson(v));

export function deskOf({ planes, time, network, rand }: { planes: Slot<ControlPlane>[]; time: VirtualClock; network: Network; rand: Rand }): Desk {
  const client = new SimProcess("client", time);
  /** One call to one instance, which may be dead, paused, or die on the way. */
  const call = async <T>(handle: (plane: ControlPlane) => Promise<T>): Promise<T> => {
    const slot = planes[rand.below(planes.length)];
    const over = time.sleep(PATIENCE_MS).then(() => {
      throw new MeshError("DM-6001", "the control plane did not answer in time");
    });
    return Promise.race([over, network.call(client, () => {
      if (slot?.service === undefined) throw new MeshError("DM-6001", "nobody listens there");
      return handle(slot.service);
    }, { repeatable: true })]);
  };
  const create = async (plane: ControlPlane, writes: Write[]): Promise<void> => {
    const result = await plane.servers.state.for(plane.seat).batch(writes);
    if (result.kind === "stale") {
      const known = await plane.servers.state.for(plane.seat).get(writes[0]?.key ?? "");
      if (known === undefined) throw new MeshError("DM-2012", "changed meanwhile");
      return;
    }
    plane.world.applyWritten(writes, result.kind === "written" ? result.revision : 0);
  };
  return {
    register: (_request, model, trained) =>
      call(async (plane) => {
        const nowMs = plane.seat.process.clock.wallMs();
        const description = {
          name: model, kind: "binary-classification", summary: "", hyperparameters: {}, performance: {},
          ...(trained ? { trainCode: { kind: "folder", treeSha256: "a".repeat(64), command: ["x"], timeoutSeconds: 60 }, trainingData: { sha256: "b".repeat(64), format: "parquet", uri: "" } } : {}),
          trainingResources: { cpu: 1, memoryBytes: 1e9 }, runResources: { cpu: 0.5, memoryBytes: 5e8 },
          features: [{ name: "x", type: "number" }], explainability: [],
          inference: { runtime: "onnx", ...(trained ? {} : { artifact: { sha256: "c".repeat(64), name: "m.onnx" } }) },
          policy: { ...DEFAULT_POLICY, labelHorizonHours: 12, cooldownDays: 2, shadowDays: 6, probationDays: 2, cacheGraceSeconds: 60, runsPerMonth: 4 },
        };
        const run = derivedId("run", model, "1");
        await create(plane, [
          { kind: "create", key: KEYS.model(model), value: enc({ description, owner: "u", createdMs: nowMs }) },
          { kind: "create", key: KEYS.run(run), value: enc({ id: run, model, scope: "open", trigger: "registration", order: "", episode: "", phase: "Pending", attempt: 0, node: "", manifestSha256: "", reason: "", version: 0, metrics: {}, logSha256: "", createdMs: nowMs, changedMs: nowMs }) },
        ]);
        return model;
      }),
    requestDeployment: (request, wish) =>
      call(async (plane) => {
        const nowMs = plane.seat.process.clock.wallMs();
        const id = derivedId("dep", "u", "request", request);
        const spec = { id, model: wish.model, target: wish.version > 0 ? { kind: "version", version: wish.version } : { kind: "alias", alias: "champion" }, mode: wish.node === "" ? "open" : "strict", node: wish.node, replicas: wish.replicas, principal: "u", requestId: request, createdMs: nowMs, offerExpiresMs: nowMs + 60_000 };
        await create(plane, [{ kind: "create", key: KEYS.deploymentSpec(id), value: enc(spec) }]);
        return id;
      }),
    acknowledge: (id) =>
      call(async (plane) => {
        const spec = await plane.servers.state.for(plane.seat).get(KEYS.deploymentSpec(id));
        if (spec === undefined) throw new MeshError("DM-2003", "none");
        const { offerExpiresMs } = JSON.parse(new TextDecoder().decode(spec.value)) as { offerExpiresMs: number };
        if (plane.seat.process.clock.wallMs() > offerExpiresMs) throw new MeshError("DM-2008", "expired");
        await create(plane, [{ kind: "create", key: KEYS.deploymentAck(id), value: enc({ createdMs: plane.seat.process.clock.wallMs(), principal: "u" }) }]);
      }),
    release: (id) => call((plane) => create(plane, [{ kind: "create", key: KEYS.deploymentEnd(id), value: enc({ createdMs: plane.seat.process.clock.wallMs(), principal: "u" }) }])),
    orderRun: (request, model) =>
      call(async (plane) => {
        const nowMs = plane.seat.process.clock.wallMs();
        const id = derivedId("ord", "u", request);
        const run = derivedId("run", "u", request);
        await create(plane, [
          { kind: "create", key: KEYS.order(id), value: enc({ id, kind: "retrain", model, scope: "open", target: run, by: "hand", reason: "", withheld: "", evidence: {}, eventMs: 0, createdMs: nowMs }) },
          { kind: "create", key: KEYS.run(run), value: enc({ id: run, model, scope: "open", trigger: "hand", order: id, episode: "", phase: "Pending", attempt: 0, node: "", manifestSha256: "", reason: "", version: 0, metrics: {}, logSha256: "", createdMs: nowMs, changedMs: nowMs }) },
        ]);
        return id;
      }),
    decide: (request, rollout, word) =>
      call(async (plane) => {
        const id = derivedId("ord", "u", request);
        await create(plane, [{ kind: "create", key: KEYS.order(id), value: enc({ id, kind: word, model: "", scope: "open", target: rollout, by: "hand", reason: "", withheld: "", evidence: {}, eventMs: 0, createdMs: 0 }) }]);
        return id;
      }),
  };
}
