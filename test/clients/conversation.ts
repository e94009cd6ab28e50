// What every foreign client asks the mesh, and what it must hear: one JSON object that each prints in its own language.
// A client is called with HOST:PORT and a deployment's id. Numbers of 64 bits may be printed as numbers or strings.
import { expect } from "vitest";
import { type Ended } from "../kit/mesh.ts";

const tensor = (name: string, datatype: string) => ({ name, datatype, shape: [-1, 1] });

/** One answer of each kind: health, metadata, FP32, BYTES both ways, stream, labels, discovery, watch, refusals with details. */
const HEARD = {
  health: "SERVING",
  live: true,
  ready: [true, true],
  metadata: {
    inputs: [tensor("code", "BYTES")],
    outputs: [tensor("name", "BYTES"), tensor("hub", "FP32")],
  },
  minutes: [90, 150],
  typed: [90, 150],
  echoed: "my-id",
  inferenceId: expect.stringMatching(/^inf_[a-z2-7]{26}$/),
  names: ["Zürich", "Dublin", ""],
  hubs: [0, 0, -1],
  // Until streams of inferences are built, a client is told so.
  streamed: { code: 12, reason: "DM-7001", domain: "driftmesh" },
  accepted: 2,
  acknowledged: 7,
  found: ["flight-minutes"],
  watched: "DEPLOYMENT_STATE_READY",
  // NOT_FOUND of the data path, of the control path; INVALID_ARGUMENT with the field it means.
  unknownModel: { code: 5, reason: "DM-3002", domain: "driftmesh" },
  unknownDescription: { code: 5, reason: "DM-2001", domain: "driftmesh" },
  wrongTensor: { code: 3, reason: "DM-3001", domain: "driftmesh", fields: ["inputs[0].name"] },
  foreignLabel: { code: 3, reason: "DM-4001", domain: "driftmesh", fields: ["labels[0].inference_id"] },
};

/** The program ended well and heard all of it. */
export function expectConversation(ended: Ended): void {
  expect({ code: ended.code, err: ended.code === 0 ? "" : ended.err.slice(-2000) }).toEqual({ code: 0, err: "" });
  expectHeard(JSON.parse(ended.out.trim().split("\n").at(-1) ?? ""));
}

/** All of it, but what this client cannot ask. */
export function expectHeard(heard: unknown, without: readonly string[] = []): void {
  const expected = Object.entries(HEARD).filter(([name]) => !without.includes(name));
  expect(heard).toEqual(Object.fromEntries(expected));
}
