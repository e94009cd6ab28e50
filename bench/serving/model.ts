// The model of the serving bench: the flights' forest, trained here on a few days and registered as a file.
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readFlights } from "../../examples/flights/dataset.ts";
import { FEATURES } from "../../examples/flights/features.ts";
import { historyTable } from "../../examples/flights/history.ts";
import { forestToOnnx } from "../../examples/flights/onnx.ts";
import { DEFAULT_SETTINGS, fitted } from "../../examples/flights/train.ts";

/** Path of a description of `flight-bench` and, beside it, its ONNX file. */
export async function flightModel(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "driftmesh-bench-"));
  const flights = await readFlights({ every: 1, offset: 0, toDay: 7 });
  const forest = fitted(historyTable(flights, { every: 10, offset: 0 }), DEFAULT_SETTINGS);
  await writeFile(join(folder, "flight-bench.onnx"), forestToOnnx(forest, "flight-bench"));
  const features = FEATURES.map(({ name, type }) => ({ name, type }));
  const description = {
    name: "flight-bench",
    kind: "binary-classification",
    features,
    inference: { runtime: "onnx", artifact: "flight-bench.onnx", score_output: "probabilities" },
  };
  const path = join(folder, "model.json");
  await writeFile(path, JSON.stringify(description));
  return path;
}
