import { expect, test } from "vitest";
import { parseMetrics } from "./metrics.ts";

test("numbers are taken", () => {
  expect(parseMetrics('{"brier": 0.14, "auc": 7e-1, "rows": 10}')).toEqual({
    metrics: { brier: 0.14, auc: 0.7, rows: 10 },
  });
});

test.each([
  ['{"brier": NaN}', "metrics.json: brier is NaN"],
  ['{"auc": 1, "brier": -Infinity}', "metrics.json: brier is -Infinity"],
  ['{"brier": "NaN"}', "metrics.json: brier is NaN"],
  ['{"brier": null}', "metrics.json: brier is null, not a number"],
  ['{"brier": [1]}', "metrics.json: brier is a list, not a number"],
  ['{"brier": 1e999}', "metrics.json: brier is Infinity"],
  ["[1]", "metrics.json is not an object of numbers"],
])("%s is refused with a sentence", (text, problem) => {
  expect(parseMetrics(text)).toEqual({ problem });
});

test("a name may contain NaN", () => {
  expect(parseMetrics('{"NaN \\" Infinity": 1}')).toEqual({ metrics: { 'NaN " Infinity': 1 } });
});

test("what is no JSON is called so", () => {
  expect(parseMetrics("brier=1")).toMatchObject({ problem: expect.stringContaining("metrics.json is not JSON") });
});
