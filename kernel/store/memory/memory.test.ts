import { expect, it } from "vitest";
import { VirtualClock } from "../../base/clock.ts";
import { blobsContract } from "../testing/blobs.ts";
import { eventLogContract } from "../testing/event-log.ts";
import { stateStoreContract } from "../testing/state-store.ts";
import { bytes, Reader, textOf } from "../testing/wait.ts";
import { MemoryBlobs } from "./blobs.ts";
import { MemoryEventLog } from "./event-log.ts";
import { MemoryStateStore } from "./state-store.ts";

stateStoreContract("memory", () => Promise.resolve(new MemoryStateStore()));
eventLogContract("memory", () => Promise.resolve(new MemoryEventLog(new VirtualClock())));
blobsContract("memory", () => Promise.resolve(new MemoryBlobs()));

it("tells a watcher to resync when a snapshot is put back", async () => {
  const store = new MemoryStateStore();
  await store.write({ kind: "put", key: "a", value: bytes("1") });
  const before = store.snapshot();
  const reader = new Reader((signal) => store.watch("", signal));
  await reader.take(2);
  await store.write({ kind: "put", key: "b", value: bytes("2") });
  store.restore(before);
  const events = await reader.until((event) => event.kind === "synced");
  expect(events.map((event) => event.kind)).toEqual(["resync", "put", "synced"]);
  await reader.stop();
});

it("delivers the whole snapshot before synced even when its keys change before they are read", async () => {
  const store = new MemoryStateStore();
  await store.write({ kind: "put", key: "a", value: bytes("1") });
  await store.write({ kind: "put", key: "b", value: bytes("1") });
  const reader = new Reader((signal) => store.watch("", signal));
  const events = [await reader.next()];
  await store.write({ kind: "put", key: "b", value: bytes("2") });
  await store.write({ kind: "put", key: "b", value: bytes("3") });
  events.push(...(await reader.take(3)));
  const shown = events.map((event) =>
    event.kind === "put" ? `${event.entry.key}${textOf(event.entry.value)}` : event.kind,
  );
  expect(shown).toEqual(["a1", "b1", "synced", "b3"]);
  await reader.stop();
});

it("says a gap when messages expired unread", async () => {
  const log = new MemoryEventLog(new VirtualClock());
  for (let i = 0; i < 5; i += 1) await log.publish({ subject: "a", payload: bytes(""), id: `e${i}` });
  log.expireBefore(4);
  const reader = new Reader((signal) => log.read({ filter: "a", fromSeq: 2 }, signal));
  expect(await reader.take(2)).toMatchObject([
    { kind: "gap", wantedSeq: 2, firstSeq: 4 },
    { kind: "message", message: { seq: 4 } },
  ]);
  await reader.stop();
});
