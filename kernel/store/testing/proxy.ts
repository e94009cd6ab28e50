// A TCP proxy that fails the way networks do: it can swallow bytes without a word, in one direction or both, cut, and stall.
import { connect, createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";

export type Direction = "to-server" | "to-client";

export class FaultyProxy implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #target: number;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #swallowed = new Set<Direction>();
  #refusing = false;
  #stalled = false;

  private constructor(server: Server, port: number, target: number) {
    this.#server = server;
    this.port = port;
    this.#target = target;
    server.on("connection", (client) => this.#join(client));
  }

  static async open(target: number): Promise<FaultyProxy> {
    const server = createServer({ allowHalfOpen: false });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    return new FaultyProxy(server, address.port, target);
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  /** From now on bytes of these directions vanish; connections stay up. */
  swallow(...directions: Direction[]): void {
    for (const direction of directions) this.#swallowed.add(direction);
  }

  /** Ends every connection; new ones pass again unless `refuse` is set. */
  cut(refuse = false): void {
    this.#refusing = refuse;
    this.#swallowed.clear();
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** From now on nothing is taken from the server: it piles up there, and nothing is lost. */
  stall(): void {
    this.#stalled = true;
    for (const [, upstream] of this.#pairs) upstream.pause();
  }

  /** Lets new connections pass again, and what is stalled go on. */
  heal(): void {
    this.#refusing = false;
    this.#stalled = false;
    this.#swallowed.clear();
    for (const [, upstream] of this.#pairs) upstream.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut(true);
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(client: Socket): void {
    if (this.#refusing) return void client.destroy();
    const upstream = connect(this.#target, "127.0.0.1");
    const pair = [client, upstream] as const;
    this.#pairs.add(pair);
    const end = (): void => {
      this.#pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    this.#pass(client, upstream, "to-server", end);
    this.#pass(upstream, client, "to-client", end);
    if (this.#stalled) upstream.pause();
  }

  #pass(from: Socket, to: Socket, direction: Direction, end: () => void): void {
    from.setNoDelay(true);
    from.on("data", (chunk) => {
      if (!this.#swallowed.has(direction)) to.write(chunk);
    });
    from.on("close", end);
    from.on("error", end);
  }
}
