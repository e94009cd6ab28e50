// A worker in a process of its own, for tests that kill it: counts and sums MESH_PANE into `snap.1` of mesh_drift until it is killed.
// Arguments: url, user, password, messages between saves.
import { systemClock as clock } from "../../base/clock.ts";
import { systemRand as rand } from "../../base/rand.ts";
import { openNats } from "../nats/door.ts";
import { type Progress, runWorker, snapshotKey, type SnapshotCodec } from "../worker.ts";
import { bytes, textOf } from "./wait.ts";

export type Sum = { count: number; total: number };

export const sumCodec: SnapshotCodec<Sum> = {
  empty: () => ({ count: 0, total: 0 }),
  encode: (progress) => bytes(JSON.stringify(progress)),
  decode: (value) => {
    const progress: Progress<Sum> = JSON.parse(textOf(value) ?? "");
    return progress;
  },
};

if (import.meta.main) {
  const [url = "", user = "", password = "", every = "100"] = process.argv.slice(2);
  await using nats = await openNats({
    url,
    credentials: { user, password },
    name: "worker",
    clock,
    rand,
    bootstrap: false,
  });
  await runWorker({
    log: nats.log("MESH_PANE"),
    filter: "mesh.pane.1.>",
    clock,
    ...snapshotKey(nats.state("mesh_drift"), "snap.1", sumCodec),
    apply: (sum, message) => {
      sum.count += 1;
      sum.total += Number(textOf(message.payload));
    },
    gap: () => {
      throw new Error("a gap in a log that loses nothing");
    },
    everyMessages: Number(every),
    everyMs: 200,
    signal: new AbortController().signal,
  });
}
