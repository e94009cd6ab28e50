// What a run makes in the simulated world: a model is its profile, and knows the regime it was fitted to.
import type { Rand } from "#kernel/base/rand.ts";
import type { RunReport, WantedRun } from "../../control-plane/backend/backend.ts";
import type { SimBlobs } from "./store.ts";
import type { Traffic } from "./traffic.ts";

type Made = Pick<RunReport, "artifactSha256" | "artifactBytes" | "profileSha256" | "metrics" | "load" | "logSha256">;

/** Some trainings fail, some fit to what is no more true. */
const FAILS = 0.15;
const BEHIND = 0.25;

export function trainerOf({ rand, traffic, blobs }: { rand: Rand; traffic: Traffic; blobs: SimBlobs }) {
  return async (run: WantedRun): Promise<Made | string> => {
    if (run.attempt > 0 && run.load.version > 1 && rand.next() < FAILS) return "the training exited with code 3";
    const profile = traffic.learn(run.load.version > 1 && rand.next() < BEHIND);
    const profileSha256 = await blobs.memory.put(profile);
    traffic.learnedAs(profileSha256);
    const artifact = new TextEncoder().encode(`model ${run.id} ${run.attempt}`);
    const artifactSha256 = await blobs.memory.put(artifact);
    const signature = {
      inputs: [{ name: "x", datatype: "FP32" as const, shape: [-1, 1] }],
      outputs: [{ name: "p", datatype: "FP32" as const, shape: [-1, 1] }],
    };
    return {
      artifactSha256,
      artifactBytes: artifact.byteLength,
      profileSha256,
      metrics: { brier: 0.2 },
      logSha256: await blobs.memory.put(new TextEncoder().encode(`log of ${run.id}`)),
      load: {
        ...run.load,
        artifactSha256,
        profileSha256,
        signature,
        features: [{ name: "x", type: "number" }],
        scoreOutput: "p",
        scoreKind: "probability",
      },
    };
  };
}
