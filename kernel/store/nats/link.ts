// One connection to NATS and the requests that run over it. Owns every setting of the client and the only reply inbox.
// K1 Nothing is handed to the client while the link is down: it would sit in the client's buffer and be thrown away at the next dial.
// K2 A request ends: answered, or unknown as soon as the link breaks or its time is up. Unknown means that it may have been carried out.
// K3 The link itself is never given up: dials go on until `close`, also while the server refuses the credentials.
// K4 Credentials are asked for at every dial, and a refusal is told by `refusal` until a dial succeeds.
//
// Requests have a hand-made inbox: one subscription, one map, one sweep for all time-outs. The client's own request costs about
// 24 us of CPU (promise, timer, stack trace), this one about 2 us.
import {
  type Auth,
  AuthorizationError,
  type ConnectionOptions,
  connect,
  headers as newHeaders,
  type Msg,
  type MsgHdrs,
  type NatsConnection,
  UserAuthenticationExpiredError,
} from "@nats-io/transport-node";
import { backoffMs } from "../../base/backoff.ts";
import { base32 } from "../../base/bytes.ts";
import type { Clock } from "../../base/clock.ts";
import { Cell } from "../../base/queue.ts";
import type { Rand } from "../../base/rand.ts";
import { MeshError, messageOf } from "../../fault/error.ts";

export type NatsCredentials = { user: string; password: string } | { token: string };

export type LinkOptions = {
  /** `nats://host:port`, several separated by commas. */
  url: string;
  /** A function is asked at each dial (K4), so that credentials which change or expire need no restart. */
  credentials?: NatsCredentials | (() => NatsCredentials);
  /** Shown by the server in its list of connections; letters, digits, - and _. */
  name: string;
  clock: Clock;
  rand: Rand;
  /** How long the first connection may take, over all dials (30 s by default). */
  connectMs?: number;
};

/** `generation` counts connections made; `up` is whether the newest of them still stands. */
export type LinkState = { up: boolean; generation: number };

export type Reply =
  | { kind: "reply"; payload: Uint8Array; headers: MsgHdrs | undefined }
  | { kind: "no-responders" }
  /** Not sent: the link is down (K1). */
  | { kind: "down" }
  /** Sent, and no answer came: it may or may not have been carried out. */
  | { kind: "unknown" };

export type Headers = Readonly<Record<string, string>>;
export type Incoming = {
  subject: string;
  reply: string;
  payload: Uint8Array;
  headers: MsgHdrs | undefined;
  code: number;
};

type Pending = { resolve: (reply: Reply) => void; untilMs: number };

const SWEEP_MS = 100;

/** Dials until connected or `connectMs` have passed; the error names the address. */
export async function openLink(options: LinkOptions): Promise<Link> {
  const untilMs = options.clock.monotonicMs() + (options.connectMs ?? 30_000);
  const inbox = `_INBOX.${options.name}.${base32(options.rand.bytes(10))}`;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return new Link(await connect(clientOptions(options, inbox)), inbox, options.clock);
    } catch (thrown) {
      if (thrown instanceof AuthorizationError) {
        throw new MeshError("DM-6012", `nats-server at ${options.url} refused the credentials`, { cause: thrown });
      }
      const waitMs = backoffMs(attempt, options.rand, 50, 1_000);
      if (options.clock.monotonicMs() + waitMs >= untilMs) {
        throw new MeshError("DM-6001", `no nats-server answers at ${options.url}: ${messageOf(thrown)}`, {
          cause: thrown,
        });
      }
      await options.clock.sleep(waitMs);
    }
  }
}

function clientOptions(options: LinkOptions, inbox: string): ConnectionOptions {
  const { credentials } = options;
  return {
    ...(credentials === undefined
      ? {}
      : { authenticator: () => shown(typeof credentials === "function" ? credentials() : credentials) }),
    servers: options.url.split(","),
    name: options.name,
    inboxPrefix: inbox,
    // 10 attempts is the default, after which the client closes for good (K3).
    maxReconnectAttempts: -1,
    reconnectDelayHandler: () => 100 + options.rand.below(400),
    // Two pings unanswered end a dead link after 6 to 9 s; with the defaults it takes 4 to 6 min.
    pingInterval: 3_000,
    maxPingOut: 2,
    timeout: 5_000,
    ignoreAuthErrorAbort: true,
    // Stack traces per request cost half of the client's CPU.
    noAsyncTraces: true,
  };
}

function shown(credentials: NatsCredentials): Auth {
  return "token" in credentials
    ? { auth_token: credentials.token }
    : { user: credentials.user, pass: credentials.password };
}

export class Link {
  readonly state: Cell<LinkState>;
  readonly #nc: NatsConnection;
  readonly #clock: Clock;
  readonly #inbox: string;
  readonly #pending = new Map<string, Pending>();
  #subscriptions = 0;
  #tokens = 0;
  #sweeping = false;
  readonly #closing = new AbortController();
  #refusal: string | undefined;

  constructor(nc: NatsConnection, inbox: string, clock: Clock) {
    this.#nc = nc;
    this.#clock = clock;
    this.#inbox = inbox;
    this.state = new Cell({ up: true, generation: 1 });
    nc.subscribe(`${inbox}.r.*`, { callback: (_error, msg) => this.#answer(msg) });
    void this.#follow();
  }

  get up(): boolean {
    return this.state.get().value.up && !this.#nc.isClosed();
  }

  /** What the server said against our credentials at the last dial; undefined while it takes them (K4). */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** Version of the server at the other end, and the JetStream API level it announces (0 when it announces none). */
  get server(): { version: string; apiLevel: number } {
    return { version: this.#nc.info?.version ?? "", apiLevel: this.#nc.info?.api_lvl ?? 0 };
  }

  /** Resolves true when the link is up, false when the signal aborts or the link is closed. */
  async whenUp(signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted && !this.#closing.signal.aborted) {
      const { value, version } = this.state.get();
      if (value.up) return true;
      await this.state.changed(version, AbortSignal.any([signal, this.#closing.signal]));
    }
    return false;
  }

  /** Sends when the link is up, without an answer; false when it is down (K1). */
  send(subject: string, payload: Uint8Array, headers?: Headers): boolean {
    if (!this.up) return false;
    this.#nc.publish(subject, payload, headers === undefined ? {} : { headers: encode(headers) });
    return true;
  }

  request(subject: string, payload: Uint8Array, options: { headers?: Headers; timeoutMs: number }): Promise<Reply> {
    if (!this.up) return Promise.resolve({ kind: "down" });
    const token = (this.#tokens++).toString(36);
    const { promise, resolve } = Promise.withResolvers<Reply>();
    this.#pending.set(token, { resolve, untilMs: this.#clock.monotonicMs() + options.timeoutMs });
    const reply = `${this.#inbox}.r.${token}`;
    this.#nc.publish(
      subject,
      payload,
      options.headers === undefined ? { reply } : { reply, headers: encode(options.headers) },
    );
    if (!this.#sweeping) void this.#sweep();
    return promise;
  }

  /** Subscriptions that stand: what shares the 64 MB that the server lets a connection be behind. */
  get subscriptions(): number {
    return this.#subscriptions;
  }

  /** A subscription of its own on a fresh inbox subject; `stop` ends it. */
  subscribe(token: string, arrive: (message: Incoming) => void): { subject: string; stop: () => void } {
    const subject = `${this.#inbox}.s.${token}`;
    const subscription = this.#nc.subscribe(subject, {
      callback: (_error, msg) =>
        arrive({
          subject: msg.subject,
          reply: msg.reply ?? "",
          payload: msg.data,
          headers: msg.headers,
          code: msg.headers?.code ?? 0,
        }),
    });
    this.#subscriptions += 1;
    let stopped = false;
    const stop = (): void => {
      if (stopped) return;
      stopped = true;
      this.#subscriptions -= 1;
      if (!this.#nc.isClosed()) subscription.unsubscribe();
    };
    return { subject, stop };
  }

  /** Closes at once; what is unanswered becomes unknown. Safe twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#break();
    await this.#nc.close();
  }

  /** Follows the client's status events until the connection is closed. */
  async #follow(): Promise<void> {
    for await (const status of this.#nc.status()) {
      if (status.type === "disconnect" || status.type === "staleConnection" || status.type === "close") this.#break();
      if (status.type === "error" && isRefusal(status.error)) this.#refusal = status.error.message;
      if (status.type !== "reconnect") continue;
      this.#refusal = undefined;
      this.state.set({ up: true, generation: this.state.get().value.generation + 1 });
    }
    this.#break();
  }

  #break(): void {
    const { value } = this.state.get();
    if (value.up) this.state.set({ up: false, generation: value.generation });
    for (const pending of this.#pending.values()) pending.resolve({ kind: "unknown" });
    this.#pending.clear();
  }

  #answer(msg: Msg): void {
    const token = msg.subject.slice(this.#inbox.length + 3);
    const pending = this.#pending.get(token);
    if (pending === undefined) return;
    this.#pending.delete(token);
    const nobody = msg.headers?.code === 503 && msg.data.byteLength === 0;
    pending.resolve(nobody ? { kind: "no-responders" } : { kind: "reply", payload: msg.data, headers: msg.headers });
  }

  /** One loop for the time-outs of all requests, alive while there are any. */
  async #sweep(): Promise<void> {
    this.#sweeping = true;
    while (this.#pending.size > 0) {
      await this.#clock.sleep(SWEEP_MS);
      const nowMs = this.#clock.monotonicMs();
      for (const [token, pending] of this.#pending) {
        if (pending.untilMs > nowMs) continue;
        this.#pending.delete(token);
        pending.resolve({ kind: "unknown" });
      }
    }
    this.#sweeping = false;
  }
}

function isRefusal(error: Error): boolean {
  return error instanceof AuthorizationError || error instanceof UserAuthenticationExpiredError;
}

function encode(record: Headers): MsgHdrs {
  const out = newHeaders();
  for (const [name, value] of Object.entries(record)) out.set(name, value);
  return out;
}
