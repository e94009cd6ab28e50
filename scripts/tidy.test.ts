import { expect, test } from "vitest";
import { tidyProblems } from "./tidy.ts";

const HEAD = "// Owns nothing.\n";
const says = (path: string, text: string): string[] => tidyProblems([{ path, text }]).map((p) => p.says);

test("a file over 400 lines is named", () => {
  expect(says("gateway/a.ts", HEAD + "const x = 1;\n".repeat(400))).toEqual([expect.stringContaining("T1 401 lines")]);
});

test("a clock, a timer, chance and the environment are found outside their doors", () => {
  const text = `${HEAD}Date.now();\nMath.random();\nsetTimeout(f);\nprocess.env.X;\n`;
  expect(says("gateway/a.ts", text)).toHaveLength(4);
  expect(says("kernel/base/a.ts", text)).toEqual([]);
});

test("a file that does not say what it owns is named", () => {
  expect(says("gateway/a.ts", "const x = 1;\n")).toEqual([expect.stringContaining("T4")]);
});

test("a folder of four files needs a short README", () => {
  const four = ["a", "b", "c", "d"].map((n) => ({ path: `gateway/route/${n}.ts`, text: HEAD }));
  expect(tidyProblems(four).map((p) => p.says)).toEqual([expect.stringContaining("T2 has no README.md")]);
  const long = { path: "gateway/route/README.md", text: "line\n".repeat(11) };
  expect(tidyProblems([...four, long]).map((p) => p.says)).toEqual([expect.stringContaining("T2 11 lines")]);
});
