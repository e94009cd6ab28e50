// Owns `flight-minutes.onnx`: half an hour on the ground and the way at 450 mph, as one multiplication and one addition.
// The file is checked in; `node make.ts` writes the same bytes again.
import { writeFileSync } from "node:fs";
import { writeModel } from "../flights/onnx.ts";

const constant = (name: string, value: number) => ({ name, shape: [1], values: Float32Array.of(value) });

/** `minutes` [-1, 1] of `distance` [-1, 1] (miles). */
export const flightMinutes = (): Uint8Array =>
  writeModel({
    name: "flight-minutes",
    inputs: [{ name: "distance", element: "float", shape: [-1, 1] }],
    outputs: [{ name: "minutes", element: "float", shape: [-1, 1] }],
    nodes: [
      { op: "Mul", domain: "", inputs: ["distance", "minutes_per_mile"], outputs: ["in_the_air"], attributes: {} },
      { op: "Add", domain: "", inputs: ["in_the_air", "on_the_ground"], outputs: ["minutes"], attributes: {} },
    ],
    constants: [constant("minutes_per_mile", 60 / 450), constant("on_the_ground", 30)],
  });

if (import.meta.main) writeFileSync(new URL("flight-minutes.onnx", import.meta.url), flightMinutes());
