// What users ask of the control plane, and how a call reaches an instance of it: which may be dead, paused, or die on the way.
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { VirtualClock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { derivedId } from "#kernel/domain/ids.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { fromConnectError } from "#kernel/rpc/connect.ts";
import { DeploymentState } from "#proto/driftmesh/v1/deployments_pb.ts";
import { FeatureType, Mode, ModelKind } from "#proto/driftmesh/v1/model_pb.ts";
import type { Network } from "./network.ts";
import { SimProcess } from "./process.ts";
import type { ControlPlane } from "./services.ts";
import type { Slot } from "./slot.ts";
import type { SimBlobs } from "./store.ts";

export type Wish = { model: string; replicas: number; version: number; node: string };
/** Each rejects with a MeshError: refused for good, or to be asked again. */
export type Desk = {
  register(requestId: string, model: string, trained: boolean): Promise<string>;
  requestDeployment(requestId: string, wish: Wish): Promise<string>;
  acknowledge(id: string): Promise<string>;
  release(id: string): Promise<string>;
  /** The id of the order. */
  orderRun(requestId: string, model: string): Promise<string>;
  decide(rollout: string, word: "promote" | "reject"): Promise<string>;
};
export type DeskOptions = {
  planes: readonly Slot<ControlPlane>[];
  time: VirtualClock;
  network: Network;
  rand: Rand;
  blobs: SimBlobs;
};

const PATIENCE_MS = 15_000;
const OFFER_MS = 20_000;
const MIB = 1024n ** 2n;
/** Short, so that a rollout ends within the time of a simulation. */
const POLICY = { labelHorizonHours: 12, cooldownDays: 2, shadowDays: 6, probationDays: 2, cacheGraceSeconds: 40 };

export function deskOf(options: DeskOptions): Desk {
  const call = callerOf(options);
  return {
    register: async (requestId, name, trained) => {
      const { memory } = options.blobs;
      const uploaded = (what: string): Promise<string> => memory.put(new TextEncoder().encode(`${what} of ${name}`));
      const came = trained
        ? {
            trainCode: { treeSha256: await uploaded("code"), command: ["node", "train.ts"] },
            trainingData: { sha256: await uploaded("data") },
          }
        : {};
      const inference = trained ? { runtime: "onnx" } : { runtime: "onnx", artifactSha256: await uploaded("artifact") };
      const resources = {
        trainingResources: { cpu: 1, memoryBytes: 512n * MIB },
        runResources: { cpu: 0.5, memoryBytes: 256n * MIB },
      };
      const features = [{ name: "x", type: FeatureType.NUMBER }];
      const description = {
        name,
        kind: ModelKind.BINARY_CLASSIFICATION,
        ...came,
        ...resources,
        features,
        inference,
        policy: POLICY,
      };
      await call(({ registry }) => registry.registerModel({ requestId, description }));
      return name;
    },
    requestDeployment: async (requestId, { model, replicas, version, node }) => {
      const mode = node === "" ? Mode.OPEN : Mode.STRICT;
      const request = { requestId, model, replicas, version, node, mode, offerTtl: durationFromMs(OFFER_MS) };
      return (await call(({ deployments }) => deployments.requestDeployment(request))).id;
    },
    acknowledge: async (id) => {
      const { state } = await call(({ deployments }) => deployments.acknowledgeDeployment({ id }));
      if (state === DeploymentState.EXPIRED) throw new MeshError("DM-2008", `deployment ${id} is Expired`);
      return id;
    },
    release: async (id) => (await call(({ deployments }) => deployments.decommissionDeployment({ id }))).id,
    orderRun: async (requestId, model) => {
      const { id } = await call(({ retraining }) => retraining.orderRun({ requestId, model, shadowDays: 3 }));
      return derivedId("ord", id);
    },
    decide: async (id, word) =>
      (
        await call(({ rollouts }) =>
          word === "promote" ? rollouts.promoteRollout({ id }) : rollouts.rejectRollout({ id }),
        )
      ).id,
  };
}

/** One call to one instance, over a network that may lose it, delay it or carry it twice. */
function callerOf({ planes, time, network, rand }: DeskOptions) {
  const client = new SimProcess("client", time);
  return async <T>(handle: (plane: ControlPlane) => Promise<T>): Promise<T> => {
    const slot = planes[rand.below(planes.length)];
    const served = network.call(client, async () => answerOf(slot, handle), { repeatable: true });
    const late = time.sleep(PATIENCE_MS).then(() => {
      throw new MeshError("DM-6001", "the control plane did not answer in time");
    });
    try {
      return await Promise.race([served, late]);
    } catch (thrown) {
      throw fromConnectError(thrown);
    }
  };
}

function answerOf<T>(slot: Slot<ControlPlane> | undefined, handle: (plane: ControlPlane) => Promise<T>): Promise<T> {
  const { process, service } = slot ?? {};
  if (process === undefined || service === undefined) throw new MeshError("DM-6007", "nobody listens there");
  // A paused instance takes the call when it goes on; one that dies before the answer never gives it.
  const taken = new Promise<void>((resolve) => process.deliver(resolve));
  return process.gate(taken.then(() => handle(service)));
}
