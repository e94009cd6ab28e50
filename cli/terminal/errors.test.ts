import { expect, test } from "vitest";
import { MeshError } from "#kernel/fault/error.ts";
import type { Format } from "./context.ts";
import { ConditionFound, printError, UsageError } from "./errors.ts";

async function printed(thrown: unknown, format: Format = "table"): Promise<{ exit: number; text: string }> {
  let text = "";
  const terminal = {
    out: () => undefined,
    talk: (more: string) => void (text += more),
    paint: (_: string, t: string) => t,
    interactive: false,
  };
  return { exit: await printError({ format, terminal, server: "127.0.0.1:4747" }, thrown), text };
}

test("a fault is told with its code, its fields, a hint and the page", async () => {
  const violations = [{ field: "model.yaml:3:5", description: 'expected a number, found "x"' }];
  const { exit, text } = await printed(new MeshError("DM-1001", "the description has 1 mistake", { violations }));
  expect(exit).toBe(2);
  expect(text).toBe(
    '✖ the description has 1 mistake (DM-1001)\n  model.yaml:3:5: expected a number, found "x"\n' +
      "  hint: mend each named field; `driftmesh explain` shows what a field means\n  see: docs/errors.md, DM-1001\n",
  );
});

test("with -o json the same is one object", async () => {
  const { exit, text } = await printed(new MeshError("DM-6004", "port 4747 is taken"), "json");
  expect(exit).toBe(1);
  expect(JSON.parse(text)).toMatchObject({ error: { code: "DM-6004", message: "port 4747 is taken", exit: 1 } });
});

test("exit codes tell usage, a found condition, an answer of the mesh and an interruption apart", async () => {
  expect((await printed(new UsageError("no such thing"))).exit).toBe(2);
  expect((await printed(new ConditionFound("drift"))).exit).toBe(3);
  expect((await printed(new DOMException("interrupted", "AbortError"))).exit).toBe(130);
  expect((await printed(new Error("surprise"))).exit).toBe(1);
  const { Code, ConnectError } = await import("#kernel/rpc/connect.ts");
  const refused = await printed(new ConnectError("connect ECONNREFUSED", Code.Unavailable));
  expect(refused.exit).toBe(64 + 14);
  expect(refused.text).toContain("no mesh answers at 127.0.0.1:4747 (DM-6007)");
});
