// Entry of a check: one order, one answer. Ends with 0 when there is an answer, whatever it says.
import { readFile } from "node:fs/promises";
import { environment } from "#kernel/base/environment.ts";
import { present } from "#kernel/base/assert.ts";
import { parseOrder } from "./order.ts";
import { probe } from "./probe.ts";

const path = present(environment()["DRIFTMESH_PROBE"], "DRIFTMESH_PROBE, the path of the order");
const check = await probe(parseOrder(await readFile(path, "utf8")));
process.stdout.write(`${check.ok ? `checked: ${check.rows ?? 0} rows` : (check.problem ?? "refused")}\n`);
