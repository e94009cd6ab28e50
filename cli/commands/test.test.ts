import { expect, test } from "vitest";
import { counted } from "./test.ts";

test("passed, failed and skipped tests are counted", () => {
  const report = { numPassedTests: 3, numFailedTests: 1, numPendingTests: 2, numTodoTests: 1, testResults: [] };
  expect(counted(JSON.stringify(report), 1)).toEqual({ passed: 3, failed: 1, skipped: 3 });
});

test("a file that could not be loaded counts as a failure", () => {
  const testResults = [{ status: "failed", assertionResults: [] }];
  expect(counted(JSON.stringify({ numPassedTests: 2, numFailedTests: 0, testResults }), 1).failed).toBe(1);
});

test("a run that broke off counts as a failure", () => {
  expect(counted("", 0).failed).toBe(1);
  expect(counted(JSON.stringify({ numPassedTests: 2, numFailedTests: 0 }), 1).failed).toBe(1);
});
