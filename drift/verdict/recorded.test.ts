// Real traffic: the natural days 28-180 of the flights of 2001 in three thinnings, model and profile from days 0-27
// (bench/drift/record.ts writes the files).
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { DAY_MS, type OutcomeCounts, type Profile } from "#kernel/domain/profile.ts";
import { describe, expect, test } from "vitest";
import { fold, openFold, type Decision, type TrackInput } from "./door.ts";
import { factOf, TRACK } from "./testing/synthetic.ts";

type Recorded = {
  profile: Profile;
  days: { startMs: number; rows: number; features: number[][]; score: number[]; outcome: OutcomeCounts }[];
};

function recorded(name: string): Recorded {
  const file = new URL(`fixtures/${name}.json.gz`, import.meta.url);
  return JSON.parse(gunzipSync(readFileSync(file)).toString("utf8")) as Recorded;
}

function inputsOf({ days }: Recorded): TrackInput[] {
  return days.flatMap(({ startMs, rows, features, score, outcome }, i): TrackInput[] => {
    const cells = [{ startMs, version: 1, rows, features, score }];
    const watermarkMs = startMs + DAY_MS;
    const pane = {
      track: TRACK,
      boot: 1,
      number: i + 1,
      firstRow: 1,
      rows,
      dropped: 0,
      suppressed: 0,
      watermarkMs,
      cells,
    };
    const versions = [{ version: 1, outcome, unlabelled: 0 }];
    return [
      { kind: "pane", pane },
      {
        kind: "outcome",
        outcome: { track: TRACK, startMs, versions, pairs: [], corrected: 0, late: 0, unmatched: 0, watermarkMs },
      },
    ];
  });
}

const DAY0 = Date.UTC(2001, 0, 1);

describe.each(["flights-10-0", "flights-10-3", "flights-20-11"])("the natural days of %s", (name) => {
  const record = recorded(name);
  const state = openFold(TRACK);
  const inputs: TrackInput[] = [{ kind: "fact", fact: factOf() }, ...inputsOf(record)];
  const decisions: Decision[] = inputs.flatMap((input, i) => fold(state, input, i + 1, () => record.profile));
  const episodes = decisions.flatMap((d) => (d.kind === "episode" ? [d.episode] : []));
  const verdicts = decisions.flatMap((d) => (d.kind === "verdict" ? [d.verdict] : []));

  test("order no retraining and confirm no episode", () => {
    expect(verdicts.at(-1)?.blocks).toBe(153);
    expect(episodes.filter(({ state: s, retrain }) => retrain || s === "Confirmed")).toEqual([]);
  });

  test("raise at most three feature alarms, and no data fault", () => {
    let alarms = 0;
    const before = new Set<string>();
    for (const { features } of verdicts) {
      for (const { name: feature, drifting, fault } of features) {
        expect(fault).toBe("");
        if (drifting && !before.has(feature)) alarms++;
        if (drifting) before.add(feature);
        else before.delete(feature);
      }
    }
    expect(alarms).toBeLessThanOrEqual(3);
  });

  test("hold each feature to its limit in all but a few blocks", () => {
    const beyond = verdicts.flatMap(({ features }) => features.filter((f) => f.statistic > f.limit));
    // Two verdicts a block; 153 blocks of 8 features at one in a thousand, and real days are not all alike.
    expect(beyond.length / 2).toBeLessThanOrEqual(12);
  });

  test("mark the February storms as transient", () => {
    const storms = episodes.filter(({ closedAs, fromMs, toMs }) => {
      const [from, to] = [(fromMs - DAY0) / DAY_MS, (toMs - DAY0) / DAY_MS];
      return closedAs === "transient" && from <= 55 && to >= 39;
    });
    expect(storms.length).toBeGreaterThanOrEqual(1);
    expect(storms.every(({ class: c }) => c === "covariate" || c === "prior")).toBe(true);
  });

  test("keep a snapshot small", () => {
    expect(canonicalJson(state).length).toBeLessThan(64 * 1024);
  });
});
