// One HTTP/2 session for each address we forward to.
// U1 A session that got GOAWAY takes no new calls; those in flight finish; the next call opens another.
// U2 A session whose peer does not answer pings is cut, so that its calls end. U3 A refused connection lets the address rest for a moment.
import * as http2 from "node:http2";
import type { Clock } from "#kernel/base/clock.ts";
import type { Logger } from "#kernel/process/log.ts";
import { SESSION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from "#kernel/rpc/windows.ts";

const CONNECT_MS = 5_000;
const PING_MS = 5_000;
const REST_MS = 500;

/** An address, what is in flight there, and its session. */
export class Upstream {
  readonly address: string;
  inFlight = 0;
  restUntilMs = 0;
  session: http2.ClientHttp2Session | undefined;
  connecting: Promise<http2.ClientHttp2Session> | undefined;
  answeredPing = true;

  constructor(address: string) {
    this.address = address;
  }
}

export class Upstreams {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #all = new Map<string, Upstream>();

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  at(address: string): Upstream {
    let upstream = this.#all.get(address);
    if (upstream === undefined) this.#all.set(address, (upstream = new Upstream(address)));
    return upstream;
  }

  /** The session when it can take a call at once. */
  ready({ session }: Upstream): http2.ClientHttp2Session | undefined {
    return session === undefined || session.closed || session.destroyed ? undefined : session;
  }

  /** Connects, once for all who wait; rejects when nobody answers at the address. */
  connect(upstream: Upstream): Promise<http2.ClientHttp2Session> {
    upstream.connecting ??= this.#open(upstream).finally(() => (upstream.connecting = undefined));
    return upstream.connecting;
  }

  /** Closes what is no longer in use; calls in flight finish. */
  keepOnly(addresses: ReadonlySet<string>): void {
    for (const [address, upstream] of this.#all) {
      if (addresses.has(address) || upstream.inFlight > 0) continue;
      this.#all.delete(address);
      upstream.session?.close();
    }
  }

  /** Pings every session until the signal aborts (U2). */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#clock.sleep(PING_MS, signal).catch(() => undefined);
      for (const upstream of this.#all.values()) this.#ping(upstream);
    }
  }

  [Symbol.dispose](): void {
    for (const { session } of this.#all.values()) session?.destroy();
    this.#all.clear();
  }

  #ping(upstream: Upstream): void {
    const session = this.ready(upstream);
    if (session === undefined) return;
    if (!upstream.answeredPing) {
      this.#log.warn("gateway.upstream-silent", { address: upstream.address });
      upstream.session = undefined;
      session.destroy(new Error("the peer does not answer"));
      return;
    }
    upstream.answeredPing = false;
    session.ping((error) => {
      if (error === null) upstream.answeredPing = true;
    });
  }

  async #open(upstream: Upstream): Promise<http2.ClientHttp2Session> {
    const { promise, resolve, reject } = Promise.withResolvers<http2.ClientHttp2Session>();
    const session = http2.connect(`http://${upstream.address}`, {
      settings: { initialWindowSize: STREAM_WINDOW_BYTES, enablePush: false },
      maxSessionMemory: 1_024,
    });
    const gone = (): void => {
      if (upstream.session === session) upstream.session = undefined;
    };
    session.once("connect", () => {
      session.setLocalWindowSize(SESSION_WINDOW_BYTES);
      upstream.answeredPing = true;
      upstream.session = session;
      resolve(session);
    });
    session.on("error", reject);
    session.once("goaway", gone);
    session.once("close", () => {
      gone();
      reject(new Error(`the connection to ${upstream.address} was closed`));
    });
    const late = new AbortController();
    void this.#clock
      .sleep(CONNECT_MS, late.signal)
      .then(() => reject(new Error(`${upstream.address} did not answer within ${CONNECT_MS} ms`)))
      .catch(() => undefined);
    try {
      return await promise;
    } catch (error) {
      upstream.restUntilMs = this.#clock.monotonicMs() + REST_MS;
      session.destroy();
      throw error;
    } finally {
      late.abort();
    }
  }
}
