// Three nats-servers that form one cluster on loopback, each with its own store; nodes are killed and started again by number.
import { join } from "node:path";
import { openNats, type NatsStores } from "../nats/door.ts";
import { type ApiError, JetStreamApi, object, text } from "../nats/api.ts";
import { openLink, type Link } from "../nats/link.ts";
import { BareServer, freePorts } from "./bare-server.ts";
import { clock, rand } from "./nats-fixture.ts";
import { until } from "./wait.ts";

const SIZE = 3;

export class Cluster implements AsyncDisposable {
  readonly nodes: readonly BareServer[];

  private constructor(nodes: readonly BareServer[]) {
    this.nodes = nodes;
  }

  /** Three nodes n0, n1, n2 that have a leader and take streams of three copies. */
  static async start(): Promise<Cluster> {
    const ports = await freePorts(2 * SIZE);
    const nodes = await Promise.all(ports.slice(0, SIZE).map((port) => BareServer.make(port)));
    const routes = ports.slice(SIZE).map((port) => `"nats://127.0.0.1:${port}"`);
    for (const [i, node] of nodes.entries()) {
      await node.configure([
        `server_name: n${i}`,
        `jetstream { store_dir: ${JSON.stringify(join(node.dir, "store"))}, sync_interval: always, max_file_store: 100GB }`,
        `cluster { name: c, listen: "127.0.0.1:${ports[SIZE + i]}", routes: [${routes.join(", ")}] }`,
      ]);
    }
    await Promise.all(nodes.map((node) => node.start()));
    return new Cluster(nodes);
  }

  get url(): string {
    return this.nodes.map((node) => node.url).join(",");
  }

  node(i: number): BareServer {
    const node = this.nodes[i];
    if (node === undefined) throw new Error(`no node ${i}`);
    return node;
  }

  /** The ports, with three copies of everything; `url` of one node for a client that begins there. */
  open(url = this.url): Promise<NatsStores> {
    return openNats({ url, name: "test", clock, rand, storageGib: 2, replicas: SIZE });
  }

  link(): Promise<Link> {
    return openLink({ url: this.url, name: "operator", clock, rand });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }
}

/** What an operator sees: who leads, and whether every copy is current. */
export class Operator implements AsyncDisposable {
  readonly #link: Link;
  readonly #api: JetStreamApi;

  private constructor(link: Link) {
    this.#link = link;
    this.#api = new JetStreamApi({ link, clock, rand });
  }

  static async of(cluster: Cluster): Promise<Operator> {
    return new Operator(await cluster.link());
  }

  /** Number of the node that leads a stream. */
  async leader(stream: string): Promise<number> {
    return numberOf(object((await this.#info(`STREAM.INFO.${stream}`))["cluster"])["leader"]);
  }

  /** Number of the node that pushes to the only watcher of a stream. */
  async consumerNode(stream: string): Promise<number> {
    const { consumers } = await this.#info(`CONSUMER.LIST.${stream}`);
    const [only] = Array.isArray(consumers) ? consumers : [];
    return numberOf(object(object(only)["cluster"])["leader"]);
  }

  /** Waits until every copy of every stream has everything. */
  async allCurrent(): Promise<void> {
    await until("every copy is current", () => this.#current(), 120_000);
  }

  async #current(): Promise<boolean> {
    const { streams } = await this.#info("STREAM.LIST");
    if (!Array.isArray(streams) || streams.length === 0) return false;
    return streams.every((stream) => {
      const { replicas } = object(object(stream)["cluster"]);
      return (
        Array.isArray(replicas) &&
        replicas.length === SIZE - 1 &&
        replicas.every((copy) => object(copy)["current"] === true && object(copy)["offline"] !== true)
      );
    });
  }

  async #info(what: string): Promise<Readonly<Record<string, unknown>>> {
    const answer = await this.#api.call(what);
    if (answer.kind === "error") throw new Error(describe(what, answer.error));
    return answer.body;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#link.close();
  }
}

const describe = (what: string, { description }: ApiError): string => `${what}: ${description}`;

function numberOf(name: unknown): number {
  const match = /^n(\d)$/.exec(text(name));
  if (match === null) throw new Error(`no leader: ${text(name)}`);
  return Number(match[1]);
}
