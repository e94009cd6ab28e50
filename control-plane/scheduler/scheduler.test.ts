import { expect, test } from "vitest";
import { type Candidate, place, refusalText, sizeText } from "./scheduler.ts";

const MIB = 2 ** 20;
const node = (name: string, cpu: number, mib: number, alive = true): Candidate => ({
  name,
  alive,
  shares: { cpu: 4, memoryBytes: 4_096 * MIB },
  free: { cpu, memoryBytes: mib * MIB },
});
const demand = (scope: "open" | `node/${string}`, cpu: number, mib: number, already: [string, number][] = []) => ({
  scope,
  resources: { cpu, memoryBytes: mib * MIB },
  already: new Map(already),
});

test("the node with the larger free share is picked", () => {
  expect(place([node("a", 1, 1_000), node("b", 3, 3_000)], demand("open", 0.5, 100))).toEqual({
    kind: "placed",
    node: "b",
  });
});

test("replicas of one workload are spread before room counts", () => {
  const nodes = [node("a", 1, 1_000), node("b", 3, 3_000)];
  expect(place(nodes, demand("open", 0.5, 100, [["b", 1]]))).toEqual({ kind: "placed", node: "a" });
});

test("equal nodes are picked by name, whatever their order", () => {
  const [a, b] = [node("a", 2, 2_000), node("b", 2, 2_000)];
  expect(place([b, a], demand("open", 1, 1))).toEqual(place([a, b], demand("open", 1, 1)));
});

test("every node says why it was refused", () => {
  const placement = place(
    [node("a", 1, 100), node("b", 0.1, 4_000), node("c", 4, 4_000, false)],
    demand("open", 0.5, 512),
  );
  expect(placement.kind === "nowhere" && refusalText(placement.refusals, "open")).toBe(
    "no node has room: node a: memory 512Mi asked, 100Mi free; node b: cpu 0.5 asked, 0.1 free; node c: its agent does not answer",
  );
});

test("a strict demand knows only its own node", () => {
  const nodes = [node("clinic", 0, 100), node("local", 4, 4_000)];
  const placement = place(nodes, demand("node/clinic", 0.5, 512));
  expect(placement.kind === "nowhere" && refusalText(placement.refusals, "node/clinic")).toBe(
    "node clinic: cpu 0.5 asked, 0 free, memory 512Mi asked, 100Mi free",
  );
  expect(place([node("clinic", 1, 1_000)], demand("node/clinic", 0.5, 512))).toEqual({
    kind: "placed",
    node: "clinic",
  });
  expect(refusalText([], "node/ward")).toBe("node ward is not there");
});

test.each([
  [100, "100"],
  [2 ** 20, "1Mi"],
  [1.5 * 2 ** 30, "1.5Gi"],
])("%d bytes read as %s", (bytes, text) => {
  expect(sizeText(bytes)).toBe(text);
});
