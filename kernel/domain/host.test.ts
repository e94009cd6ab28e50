import { expect, test } from "vitest";
import { parseBytes, parseHostFile, parseShare } from "./host.ts";

const rest = { cpu: 4, memoryBytes: 1000 };

test.each([
  ["512Mi", 512 * 2 ** 20],
  ["1Gi", 2 ** 30],
  ["1.5G", 1.5e9],
  ["77", 77],
])("%s is %d bytes", (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});

test.each(["", "Gi", "1gb", "-1", "1 Gi", "1e9"])("%j is no size", (text) => {
  expect(parseBytes(text)).toBeUndefined();
});

test("a share takes what is written and the rest from the machine", () => {
  expect(parseShare("clinic:cpu=1.5,memory=1Gi", rest)).toEqual({
    share: { name: "clinic", cpu: 1.5, memoryBytes: 2 ** 30 },
  });
  expect(parseShare("local", rest)).toEqual({ share: { name: "local", ...rest } });
});

test.each(["", "UPPER", "a_b", "-a", "a:cpu=0", "a:cpu=x", "a:disk=1", "a:memory=lots", "../x", "a".repeat(40)])(
  "%j is refused with a sentence",
  (text) => {
    expect(parseShare(text, rest)).toEqual({ problem: expect.stringMatching(/node/) });
  },
);

test("a file of another format is not read as ours", () => {
  expect(parseHostFile('{"format":2,"socket":"x","children":[]}')).toBeUndefined();
  expect(parseHostFile("")).toBeUndefined();
});
