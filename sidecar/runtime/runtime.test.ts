import { expect, test } from "vitest";
import type { TensorSpec } from "#kernel/domain/model.ts";
import { exampleInputs, numberToHalf } from "./example.ts";
import { loadOnnx } from "./onnx.ts";
import { columnsOf, planFeatures, scoresOf } from "./score.ts";
import { halfToNumber, selectRows, type Tensor } from "./tensor.ts";
import { echoModel, mixedModel } from "./testing/onnx.ts";

const spec = (name: string, datatype: TensorSpec["datatype"], ...shape: number[]): TensorSpec => ({
  name,
  datatype,
  shape,
});
const floats = (name: string, shape: number[], ...values: number[]): Tensor => ({
  name,
  datatype: "FP32",
  shape,
  values: Float32Array.from(values),
});

test.each([
  "BOOL",
  "UINT8",
  "UINT16",
  "UINT32",
  "UINT64",
  "INT8",
  "INT16",
  "INT32",
  "INT64",
  "FP16",
  "FP32",
  "FP64",
] as const)("the runtime takes and gives %s", async (datatype) => {
  await using runtime = await loadOnnx(echoModel(datatype));
  expect(runtime.signature.inputs).toEqual([spec("in", datatype, -1, 2)]);
  const inputs = exampleInputs(
    runtime.signature,
    [
      { name: "f0", type: "number" },
      { name: "f1", type: "number" },
    ],
    [{ f0: 1 }],
  );
  const [output] = await runtime.infer(inputs);
  expect(output?.values).toEqual(inputs[0]?.values);
});

test("texts pass as they are", async () => {
  await using runtime = await loadOnnx(echoModel("BYTES"));
  const input: Tensor = { name: "in", datatype: "BYTES", shape: [1, 2], values: ["", "Grüße 🙂"] };
  expect((await runtime.infer([input]))[0]?.values).toEqual(input.values);
});

test("an example by feature name becomes the model's inputs", async () => {
  await using runtime = await loadOnnx(mixedModel({ red: 2, blue: -2 }));
  const features = [
    { name: "amount", type: "number" as const },
    { name: "colour", type: "category" as const },
  ];
  const outputs = await runtime.infer(
    exampleInputs(runtime.signature, features, [
      { amount: 1, colour: "red" },
      { amount: 0, colour: "green" },
    ]),
  );
  const scores = scoresOf(outputs, "probabilities", 2);
  expect(scores[0]).toBeCloseTo(1 / (1 + Math.exp(-3)), 6);
  expect(scores[1]).toBe(0.5);
});

test("the score is the only column, the second of two, or the largest of more; nothing where rows do not fit", () => {
  expect([...scoresOf([floats("p", [2], 0.1, 0.2)], "p", 2)]).toEqual([Math.fround(0.1), Math.fround(0.2)]);
  expect([...scoresOf([floats("p", [2, 2], 1, 2, 3, 4)], "p", 2)]).toEqual([2, 4]);
  expect([...scoresOf([floats("p", [1, 3], 1, 5, 3)], "p", 1)]).toEqual([5]);
  expect([...scoresOf([floats("p", [3], 1, 2, 3)], "p", 2)]).toEqual([Number.NaN, Number.NaN]);
  expect([...scoresOf([floats("p", [1], 1)], "other", 1)]).toEqual([Number.NaN]);
});

test("features are fed by inputs of their name, or by their place in the only input", () => {
  const named = planFeatures(
    [
      { name: "b", type: "number" },
      { name: "a", type: "category" },
    ],
    [spec("a", "BYTES", -1), spec("b", "INT64", -1, 1)],
  );
  expect(named.kind === "ok" && named.sources.map(({ input }) => input)).toEqual([1, 0]);
  const placed = planFeatures(
    [
      { name: "p", type: "number" },
      { name: "q", type: "number" },
    ],
    [spec("x", "FP32", -1, 2)],
  );
  expect(placed.kind === "ok" && placed.sources.map(({ offset }) => offset)).toEqual([0, 1]);
  const sources = placed.kind === "ok" ? placed.sources : [];
  const columns = columnsOf(sources, [floats("x", [2, 2], 1, 2, 3, 4)], 2);
  expect(columns.map(({ values }) => [...values])).toEqual([
    [1, 3],
    [2, 4],
  ]);
});

test("a feature fed by several values of a row counts as their mean", () => {
  const plan = planFeatures([{ name: "image", type: "number" }], [spec("image", "FP32", -1, 2, 2)]);
  const columns = columnsOf(plan.kind === "ok" ? plan.sources : [], [floats("image", [1, 2, 2], 1, 2, 3, 6)], 1);
  expect([...(columns[0]?.values ?? [])]).toEqual([3]);
});

test("rows can be chosen out of every kind of tensor", () => {
  expect(selectRows(floats("x", [3, 2], 1, 2, 3, 4, 5, 6), [2, 0]).values).toEqual(Float32Array.of(5, 6, 1, 2));
  expect(selectRows({ name: "t", datatype: "BYTES", shape: [2, 1], values: ["a", "b"] }, [1])).toMatchObject({
    shape: [1, 1],
    values: ["b"],
  });
});

test("halves are read and written to the nearest", () => {
  for (const value of [0, 1, -2.5, 65_504, 2 ** -24, Infinity, 0.333251953125])
    expect(halfToNumber(numberToHalf(value))).toBe(value);
  expect(halfToNumber(numberToHalf(Number.NaN))).toBeNaN();
  expect(numberToHalf(1e9)).toBe(0x7c00);
});
