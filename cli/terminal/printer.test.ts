import { expect, test } from "vitest";
import { age, bytes, duration, tableText } from "./printer.ts";

const columns = [
  { head: "NAME", of: (row: { name: string; count: number }) => row.name },
  { head: "COUNT", of: (row: { name: string; count: number }) => String(row.count), right: true },
  { head: "MORE", of: () => "x", wide: true },
];
const rows = [
  { name: "a", count: 5 },
  { name: "longer", count: 12_345 },
];

test("columns are as wide as their widest cell, without trailing blanks", () => {
  expect(tableText({ rows, columns }, false)).toBe("NAME    COUNT\na           5\nlonger  12345\n");
});

test("wide columns appear with -o wide only", () => {
  expect(tableText({ rows, columns }, true)).toContain("COUNT  MORE");
});

test("control characters of a name do not reach the terminal", () => {
  expect(tableText({ rows: [{ name: "\u001b[2J", count: 1 }], columns }, false)).toContain("?[2J");
});

test("durations, ages and sizes are short", () => {
  expect([duration(350), duration(61_000), age(7_300_000, 100_000), age(5, 0)]).toEqual(["350ms", "1m", "2h", "-"]);
  expect([bytes(0), bytes(512 * 2 ** 20), bytes(3.4 * 2 ** 30)]).toEqual(["0 B", "512 MiB", "3.4 GiB"]);
});
