import { expect, test } from "vitest";
import { ModelKind } from "#proto/driftmesh/v1/model_pb.ts";
import { decodeDescription } from "./decode.ts";

const GOOD = `name: iris
kind: binary-classification
features:
  - { name: a, type: number }
inference: { runtime: onnx, artifact: ./iris.onnx }
`;

const problems = (text: string): string[] => {
  const decoded = decodeDescription(text);
  if (decoded.kind === "ok") return [];
  return decoded.problems.map(
    (p) => `${p.line}:${p.column} ${p.field}: ${p.expected}${p.suggestion && ` (${p.suggestion}?)`}`,
  );
};

test("a description in our names and one in the paper's names give the same message", () => {
  const ours = decodeDescription(GOOD);
  const paper = decodeDescription(
    GOOD.replace("name: iris", "modelname: iris").replace("kind:", "modelkind:").replace("features:", "featurelist:"),
  );
  expect(ours).toEqual(paper);
  expect(ours).toMatchObject({ kind: "ok", description: { name: "iris", kind: ModelKind.BINARY_CLASSIFICATION } });
});

test("JSON is read like YAML, and memory may have a unit", () => {
  const json = '{"name":"j","run_resources":{"cpu":0.5,"memory":"512Mi"},"inference":{"artifact":"x.onnx"}}';
  expect(decodeDescription(json)).toMatchObject({
    kind: "ok",
    description: { runResources: { memoryBytes: 536870912n } },
  });
});

test.each([
  [
    "an unknown field is named with the nearest",
    GOOD.replace("features:", "fetures:"),
    "3:1 fetures: one of",
    "(features?)",
  ],
  [
    "an unknown inner field is named",
    GOOD.replace("artifact:", "artefact:"),
    "5:29 inference.artefact: one of",
    "(artifact?)",
  ],
  ["a wrong type says what was expected", GOOD.replace("iris\n", "[1]\n"), "1:7 name: a text", ""],
  ["a wrong enum lists the words", GOOD.replace("binary-", "binery-"), "2:7 kind: one of", "(binary-classification?)"],
  [
    "a wrong list",
    GOOD.replace("  - { name: a, type: number }", "  a: number"),
    "4:3 features: a list of mappings",
    "",
  ],
  ["nothing where something belongs", GOOD.replace("kind: binary-classification", "kind:"), "2:1 kind:", ""],
  ["a name twice by paper and ours", `${GOOD}modelname: again\n`, "6:1 modelname: it once: name already gave it", ""],
  ["a bad name", GOOD.replace("iris\n", "Iris Flower\n"), "1:7 name: lower-case letters", ""],
  [
    "a feature twice",
    GOOD.replace("features:\n", "features:\n  - { name: a }\n"),
    "features[1].name: each feature once",
    "",
  ],
  [
    "train code and artifact",
    `${GOOD}traincode: { folder: ., command: [node, t.ts] }\n`,
    "train code or a trained artifact",
    "",
  ],
  ["text that is no YAML", "name: [", "(file): YAML or JSON that can be read", ""],
  ["a list instead of a description", "- 1\n", "(file): a mapping of fields", ""],
  [
    "memory in an unknown unit",
    `${GOOD}runresource: { memory: 5Q }\n`,
    "runresource.memory: bytes, or a number with",
    "",
  ],
  ["a negative tolerance", `${GOOD}policy: { tolerance: -1 }\n`, "policy.tolerance: a number above 0", ""],
])("%s", (_name, text, expected, suggestion) => {
  const found = problems(text).join("\n");
  expect(found).toContain(expected);
  expect(found).toContain(suggestion);
});

test("all problems come at once, in the order of the file", () => {
  const found = problems("nam: x\nkind: cat\nfeatures: 3\npolicy: { scale: soon }\n");
  expect(found).toHaveLength(4);
  expect(found.map((p) => Number(p.split(":")[0]))).toEqual([1, 2, 3, 4]);
});
