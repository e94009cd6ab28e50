// What the command line promises of every command: forms of output, exit codes, names that are nearly right, help, interruption.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { parse } from "yaml";
import { afterAll, beforeAll, expect, test } from "vitest";
import { driftmesh, ROOT, startMesh, type TestMesh } from "../kit/mesh.ts";

let mesh: TestMesh;
const MINUTES = join(ROOT, "examples/flight-minutes/model.yaml");
const COMMANDS =
  "dev demo test stop status check register find deploy get describe infer feedback drift retrain decommission explain backup restore";

beforeAll(async () => {
  mesh = await startMesh(["local:cpu=1,memory=1Gi", "clinic:cpu=1,memory=512Mi"]);
  await mesh.json("register", MINUTES, "--deploy");
}, 120_000);

afterAll(async () => {
  await mesh[Symbol.asyncDispose]();
}, 60_000);

test.concurrent.for(COMMANDS.split(" "))("%s --help ends with 0 and holds an example", async (command) => {
  const ended = await driftmesh([command, "--help"]);
  expect(ended).toMatchObject({ code: 0, err: "" });
  expect(ended.out).toContain(`Usage: driftmesh ${command}`);
  expect(ended.out).toContain("Example:\n  driftmesh ");
});

test.for(["models", "deployments", "rollouts"])(
  "get %s prints a table, more with wide, one line of JSON, the same as YAML, and names",
  async (kind) => {
    const forms = ["table", "wide", "json", "yaml", "name"];
    const [table, wide, json, yaml, name] = await Promise.all(forms.map((form) => mesh.cli("get", kind, "-o", form)));
    for (const ended of [table, wide, json, yaml, name]) expect(ended?.code).toBe(0);
    expect(json?.out.trimEnd()).not.toContain("\n");
    const rows = (JSON.parse(json?.out ?? "") as Record<string, unknown[]>)[kind] ?? [];
    expect(parse(yaml?.out ?? "")).toEqual({ [kind]: rows });
    expect(name?.out.split("\n")).toHaveLength(rows.length + 1);
    if (rows.length === 0) expect(table).toMatchObject({ out: "", err: expect.stringMatching(/^no /) });
    else expect(table?.out.split("\n")).toHaveLength(rows.length + 2);
    expect(wide?.out.length).toBeGreaterThanOrEqual(table?.out.length ?? 0);
  },
);

test.concurrent.for([
  ["an unknown command", ["gte"], 2, "Did you mean get"],
  ["an unknown option", ["get", "models", "--wtach"], 2, "Did you mean --watch"],
  ["an unknown kind", ["get", "modles"], 2, "did you mean models"],
  ["a name that is nearly right", ["describe", "model/flight-minuts"], 69, "did you mean flight-minutes"],
  ["an unknown code", ["explain", "DM-2202"], 2, "did you mean DM-2"],
  ["a feature the model does not have", ["infer", "flight-minutes", "--rows", '[{"distnce":1}]'], 2, '"distnce"'],
  ["a file that is not there", ["infer", "flight-minutes", "--rows", "@/no/such"], 2, "/no/such cannot be read"],
  ["an answer of the mesh", ["deploy", "flight-minutes:9"], 69, "no version 9"],
] as const)("%s ends with its code and says what is meant", async ([, args, code, says]) => {
  const ended = await mesh.cli(...args);
  expect(ended).toMatchObject({ code, out: "", err: expect.stringContaining(says) });
});

test("with -o json every failure is one object on stderr, also a mistake of the call itself", async () => {
  for (const args of [
    ["get", "--bogus"],
    ["get", "modles"],
    ["deploy", "nobody"],
  ]) {
    const ended = await mesh.cli(...args, "-o", "json");
    expect(ended.out).toBe("");
    expect(JSON.parse(ended.err)).toMatchObject({ error: { message: expect.any(String), exit: ended.code } });
  }
});

test("where no mesh answers, the address is named", async () => {
  const ended = await driftmesh(["get", "models", "--server", "127.0.0.1:1"]);
  expect(ended).toMatchObject({ code: 64 + 14, err: expect.stringContaining("no mesh answers at 127.0.0.1:1") });
});

test("a watch prints one line of JSON at each change, and leaves with 130 when interrupted", async () => {
  const args = [join(ROOT, "cli/main.ts"), "get", "models", "--watch", "--server", mesh.server];
  const watch = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [first] = (await once(watch.stdout, "data")) as [Buffer];
  expect(JSON.parse(first.toString())).toMatchObject({ models: [{ description: { name: "flight-minutes" } }] });
  watch.kill("SIGINT");
  expect(await once(watch, "exit")).toEqual([130, null]);
});

test("registering the same file twice changes nothing", async () => {
  const [first, second] = [
    await mesh.json("register", MINUTES, "--deploy"),
    await mesh.json("register", MINUTES, "--deploy"),
  ];
  expect(second["deployment"]).toBe(first["deployment"]);
  expect((await mesh.json("get", "deployments"))["deployments"]).toHaveLength(1);
});

test("a strict deployment is called at its own endpoint by its id alone", async () => {
  const strict = await mesh.json("deploy", "flight-minutes", "--strict", "--node", "clinic", "--wait");
  expect((await mesh.json("infer", String(strict["id"]), "--example"))["inferenceId"]).toMatch(/^inf_/);
});

test("check looks at the machine and the mesh, and ends with 0 when nothing failed", async () => {
  const ended = await driftmesh(["check", "--data", mesh.data]);
  expect(ended.code).toBe(0);
  expect(ended.out).toMatch(/nats-server[\s\S]*leader[\s\S]*\d+ ok, \d+ warnings, 0 failed/);
});
