import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { flightMinutes } from "../flight-minutes/make.ts";
import { FEATURES } from "./features.ts";
import { DEFAULT_SETTINGS } from "./train.ts";

const described = parse(readFileSync(new URL("model.yaml", import.meta.url), "utf8")) as Record<string, unknown>;

test("the description has the ten fields under the paper's names", () => {
  const ten = [
    "modelname",
    "modelkind",
    "traincode",
    "trainingdata",
    "hyperparameters",
    "modelperform",
    "trainingresource",
    "runresource",
    "featurelist",
    "inference",
  ];
  expect(ten.filter((field) => described[field] === undefined)).toEqual([]);
});

test("the described features are those the client sends, the hyperparameters those the pay-off uses", () => {
  const listed = described["featurelist"] as { name: string; type: string }[];
  expect(listed.map(({ name, type }) => ({ name, type }))).toEqual([...FEATURES]);
  expect(described["hyperparameters"]).toEqual(DEFAULT_SETTINGS);
});

test("the second model's file is what its script writes", () => {
  const file = readFileSync(new URL("../flight-minutes/flight-minutes.onnx", import.meta.url));
  expect(new Uint8Array(file)).toEqual(flightMinutes());
});
