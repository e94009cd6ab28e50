// A real nats-server for integration tests: found or installed like a user's, in a scratch folder, stopped by pid at the end.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { systemClock } from "../../base/clock.ts";
import { systemRand } from "../../base/rand.ts";
import { findNatsServer } from "../nats/find-server.ts";
import { type NatsStores, openNats } from "../nats/door.ts";
import { type NatsServer, startNatsServer } from "../nats/server.ts";

const CACHE = fileURLToPath(new URL("../../../.cache/nats", import.meta.url));
export const clock = systemClock;
export const rand = systemRand;

/** Where the tests' nats-server lies. */
export async function natsBinary(): Promise<string> {
  const named = process.env["DRIFTMESH_NATS_SERVER"];
  const found = await findNatsServer({
    ...(named === undefined ? {} : { named }),
    cacheDir: CACHE,
    env: process.env,
    say: () => undefined,
  });
  return found.binary;
}

export type TestServer = AsyncDisposable & {
  readonly dir: string;
  /** The newest server; a restart makes another one on the same port and store. */
  server(): NatsServer;
  open(url?: string): Promise<NatsStores>;
  /** kill -9, then a new server on the same store and port. */
  killAndRestart(): Promise<void>;
  start(): Promise<void>;
};

export async function testServer(): Promise<TestServer> {
  const binary = await natsBinary();
  const dir = await mkdtemp(join(tmpdir(), "driftmesh-nats-"));
  let server = await startNatsServer({ binary, dir, clock, rand });
  const start = async (): Promise<void> => {
    server = await startNatsServer({ binary, dir, port: server.port, clock, rand });
  };
  return {
    dir,
    server: () => server,
    start,
    open: (url) =>
      openNats({ url: url ?? server.url, credentials: server.credentials, name: "test", clock, rand, storageGib: 1 }),
    killAndRestart: async () => {
      process.kill(server.pid, "SIGKILL");
      await server.stop();
      await start();
    },
    [Symbol.asyncDispose]: async () => {
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
