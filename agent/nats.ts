// The mesh's NATS: one that the user named, or a nats-server of our own that is started again when it dies.
// N1 Its port and credentials stay the same over restarts, so that every link finds it again.
import { join } from "node:path";
import type { Clock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { messageOf } from "#kernel/fault/error.ts";
import type { Logger } from "#kernel/process/log.ts";
import { findNatsServer } from "#kernel/store/nats/find-server.ts";
import { type NatsServer, startNatsServer } from "#kernel/store/nats/server.ts";
import { isAlive, markOf, type ServiceView } from "./children/door.ts";

const LOOK_MS = 200;

export type NatsOptions = {
  clock: Clock;
  rand: Rand;
  log: Logger;
  env: Readonly<Record<string, string | undefined>>;
  dir: string;
  cacheDir: string;
  port: number;
  /** A NATS that runs already: `nats://[user:password@]host:port`. */
  url: string | undefined;
  binary: string | undefined;
  changed: () => void;
};

export type Nats = {
  url: string;
  port: number;
  /** JSON for DRIFTMESH_NATS_CREDENTIALS; empty when there are none. */
  credentials: string;
  view(): ServiceView;
  stop(): Promise<void>;
};

/** Starts it, or takes the named one as it is. */
export async function openNats(options: NatsOptions): Promise<Nats> {
  return options.url === undefined ? await ownServer(options) : namedServer(options.url);
}

function namedServer(named: string): Nats {
  const url = new URL(named);
  const user = decodeURIComponent(url.username);
  const password = decodeURIComponent(url.password);
  url.username = "";
  url.password = "";
  const address = url.host;
  const view = { name: "nats-server", state: "ready", address, pid: 0, log: "", restarts: 0 };
  return {
    url: `nats://${address}`,
    port: 0,
    credentials: user === "" ? "" : JSON.stringify({ user, password }),
    view: () => view,
    stop: () => Promise.resolve(),
  };
}

async function ownServer(options: NatsOptions): Promise<Nats> {
  const { clock, rand, log, env, dir, cacheDir, changed } = options;
  const say = (line: string): void => log.info("nats.says", { line });
  const binary = options.binary ?? (await findNatsServer({ cacheDir, env, say })).binary;
  const start = (port: number): Promise<NatsServer> => startNatsServer({ binary, dir, port, clock, rand, say });
  let server = await start(options.port);
  let state = "ready";
  let restarts = 0;
  const stopping = new AbortController();
  const keeping = keep();
  async function keep(): Promise<void> {
    for (let mark = await markOf(server.pid); !stopping.signal.aborted;) {
      await clock.sleep(LOOK_MS, stopping.signal).catch(() => undefined);
      if (stopping.signal.aborted || (await isAlive(mark))) continue;
      state = "restarting";
      restarts += 1;
      log.warn("child.ended", { child: "nats-server", restarts });
      changed();
      server = await start(server.port).catch((thrown: unknown) => {
        log.error("nats.failed", { message: messageOf(thrown) });
        return server;
      });
      mark = await markOf(server.pid);
      state = "ready";
      changed();
    }
  }
  return {
    url: server.url,
    port: server.port,
    credentials: JSON.stringify(server.credentials),
    view: () => ({
      name: "nats-server",
      state,
      address: `127.0.0.1:${server.port}`,
      pid: server.pid,
      log: join(dir, "nats-server.log"),
      restarts,
    }),
    async stop() {
      stopping.abort();
      await keeping;
      await server.stop();
      state = "stopped";
    },
  };
}
