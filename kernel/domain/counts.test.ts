import { expect, test } from "vitest";
import { denseCounts, sparseCounts } from "./counts.ts";

test("counts come back as they were sent, zeros and edges included", () => {
  for (const dense of [[], [0], [5], [0, 0, 7], [1, 0, 0, 2, 3], [0, 9, 0, 0]]) {
    expect(denseCounts(sparseCounts(dense))).toEqual(dense);
  }
  expect(sparseCounts([1, 0, 0, 2, 3]).gap).toEqual([0, 3, 1]);
});

test("cells beyond the size, and lists of different lengths, are refused", () => {
  expect(denseCounts({ size: 2, gap: [0, 2], value: [1n, 1n] })).toBeUndefined();
  expect(denseCounts({ size: 2, gap: [0, 1], value: [1n] })).toBeUndefined();
});
