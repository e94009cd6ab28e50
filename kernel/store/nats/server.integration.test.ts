// Finding, installing, starting, adopting and refusing a nats-server.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { clock, natsBinary, rand } from "../testing/nats-fixture.ts";
import { until } from "../testing/wait.ts";
import { lockDataFolder } from "../lock.ts";
import { openNats } from "./door.ts";
import { findNatsServer } from "./find-server.ts";
import { startNatsServer } from "./server.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "driftmesh-server-"));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const silent = (): void => undefined;

/** A program called nats-server that says it is `version`. */
async function fake(version: string): Promise<string> {
  const path = join(dir, "nats-server");
  await writeFile(path, `#!/bin/sh\necho "nats-server: v${version}"\n`);
  await chmod(path, 0o755);
  return path;
}

describe("finding a nats-server", () => {
  it("takes the one that is named", async () => {
    const named = await fake("2.14.0");
    expect(await findNatsServer({ named, cacheDir: join(dir, "c"), env: {}, say: silent })).toEqual({
      binary: named,
      version: "2.14.0",
      from: "named",
    });
  });

  it("refuses a named one that is too old, with its version and what to install", async () => {
    const named = await fake("2.9.10");
    const found = findNatsServer({ named, cacheDir: join(dir, "c"), env: {}, say: silent });
    await expect(found).rejects.toThrow(/nats-server 2\.9\.10, too old.*2\.12\.3 or newer.*driftmesh dev --nats/);
  });

  it("takes one on the PATH that will do", async () => {
    const binary = await fake("2.12.3");
    expect(await findNatsServer({ cacheDir: join(dir, "c"), env: { PATH: dir }, say: silent })).toMatchObject({
      binary,
      from: "path",
    });
  });

  it("says what would do when there is nothing, no pip and no Go, and that an old one was passed over", async () => {
    await fake("2.10.7");
    const found = findNatsServer({ cacheDir: join(dir, "c"), env: { PATH: dir }, say: silent });
    await expect(found).rejects.toThrow(
      /no nats-server was found.*2\.12\.3.*\(a\).*\(b\).*\(c\).*2\.10\.7, too old.*python3 is not installed.*go is not installed/,
    );
  });

  it("installs the pinned wheel into an empty cache, and finds it there the next time", async () => {
    const env = {
      PATH: process.env["PATH"]
        ?.split(":")
        .filter((folder) => !folder.includes("nats"))
        .join(":"),
      HOME: process.env["HOME"],
    };
    const cacheDir = join(dir, "cache");
    const said: string[] = [];
    const first = await findNatsServer({ cacheDir, env, say: (line) => said.push(line) });
    if (first.from === "path") return;
    expect(first.from).toMatch(/pip|go/);
    expect(said).not.toEqual([]);
    expect(await findNatsServer({ cacheDir, env: {}, say: silent })).toEqual({ ...first, from: "cache" });
  }, 120_000);
});

describe("starting a nats-server", () => {
  it("gives a server on loopback that wants its credentials, and adopts it at a second start", async () => {
    const options = { binary: await natsBinary(), dir, clock, rand };
    const first = await startNatsServer(options);
    try {
      const second = await startNatsServer(options);
      expect(second).toMatchObject({ pid: first.pid, url: first.url, adopted: true });
      const stranger = openNats({ url: first.url, name: "stranger", clock, rand, connectMs: 1_000 });
      await expect(stranger).rejects.toThrow("refused the credentials");
      expect((await stat(join(dir, "credentials.json"))).mode & 0o077).toBe(0);
      expect((await stat(join(dir, "nats-server.conf"))).mode & 0o077).toBe(0);
    } finally {
      await first.stop();
    }
    await first.stop();
  });

  it("names the port when it is taken", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const address = other.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    await expect(startNatsServer({ binary: await natsBinary(), dir, port, clock, rand })).rejects.toThrow(
      `port ${port} of nats-server is taken`,
    );
    other.close();
  });

  it("says that nobody answers when there is no server, within the time given", async () => {
    await expect(openNats({ url: "nats://127.0.0.1:9", name: "t", clock, rand, connectMs: 300 })).rejects.toThrow(
      "no nats-server answers at nats://127.0.0.1:9",
    );
  });

  it("refuses to work with an old server, and names its version", async () => {
    const info = { server_id: "X", version: "2.9.10", proto: 1, headers: true, max_payload: 1048576, jetstream: true };
    const old = createServer((socket) => {
      socket.on("error", silent);
      socket.write(`INFO ${JSON.stringify(info)}\r\n`);
      socket.on("data", (chunk) => (chunk.includes("PING") ? socket.write("PONG\r\n") : undefined));
    }).listen(0, "127.0.0.1");
    await once(old, "listening");
    const address = old.address();
    const url = `nats://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
    await expect(openNats({ url, name: "t", clock, rand, connectMs: 2_000 })).rejects.toThrow(
      /nats-server 2\.9\.10 is too old.*2\.12\.3/,
    );
    old.close();
  });
});

describe("a second launcher", () => {
  const CHILD = fileURLToPath(new URL("../testing/lock-child.ts", import.meta.url));

  it("is refused with the first one's pid, and takes over when that one was killed", async () => {
    const child = spawn(process.execPath, [CHILD, dir], { stdio: ["pipe", "pipe", "inherit"] });
    let said = "";
    child.stdout.on("data", (chunk) => (said += String(chunk)));
    await until("the child has the lock", () => said.includes("locked"));
    await expect(lockDataFolder(dir)).rejects.toThrow(`in use by another mesh with pid ${child.pid}`);
    child.kill("SIGKILL");
    await once(child, "exit");
    await using lock = await lockDataFolder(dir);
    expect(lock.dir).toBe(dir);
  });
});
