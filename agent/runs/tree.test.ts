import { expect, test } from "vitest";
import { parseTree } from "./tree.ts";

const hash = "a".repeat(64);
const tree = (...paths: readonly unknown[]): string =>
  JSON.stringify({ format: 1, files: paths.map((path) => ({ path, sha256: hash, mode: 420 })) });

test("a tree of relative paths is taken, modes reduced to plain and executable", () => {
  const text = JSON.stringify({
    format: 1,
    files: [
      { path: "bin/train", sha256: hash, mode: 0o4777 },
      { path: "a", sha256: hash, mode: 0o600 },
    ],
  });
  expect(parseTree(text)).toEqual([
    { path: "bin/train", sha256: hash, mode: 0o755 },
    { path: "a", sha256: hash, mode: 0o644 },
  ]);
});

test.each([
  "../x",
  "a/../../x",
  "/etc/passwd",
  "",
  "a//b",
  "./a",
  "a/..",
  "a\\..\\b",
  "node_modules/x/index.js",
  "a\0b",
  7,
  null,
])("the path %j is refused", (path) => {
  expect(() => parseTree(tree(path))).toThrow(/is not inside the folder/);
});

test("a file that is there twice is refused", () => {
  expect(() => parseTree(tree("a", "a"))).toThrow(/a is there twice/);
});

test("more than a thousand files are refused", () => {
  expect(() => parseTree(tree(...Array.from({ length: 1001 }, (_, i) => `f${i}`)))).toThrow(/at most 1000/);
});

test("another format is refused", () => {
  expect(() => parseTree('{"format":2,"files":[]}')).toThrow(/format 1/);
  expect(() => parseTree("tree")).toThrow(/not JSON/);
});
