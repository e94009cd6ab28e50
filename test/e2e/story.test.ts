import { expect, test } from "vitest";
import { driftmesh, freePort } from "../kit/mesh.ts";

// Every sentence of the story is asserted by the demo itself, which exits with 1 when one fails.
test("the whole story holds, at every twentieth flight", async () => {
  const ended = await driftmesh(["demo", "--every", "20", "--port", String(await freePort())]);
  expect(ended.code, `${ended.out}\n${ended.err}`).toBe(0);
  expect(ended.out).toContain("The story holds");
}, 420_000);
