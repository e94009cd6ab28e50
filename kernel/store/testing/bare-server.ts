// A nats-server under a configuration that the test writes: for faults of the server itself (users, disk, cluster), which the launcher's own
// configuration would put right at the next start. Loopback only; ended by pid.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { natsBinary } from "./nats-fixture.ts";
import { until } from "./wait.ts";

/** Ports that nobody listens on at the moment; all are held at once, so they differ. */
export async function freePorts(count: number): Promise<number[]> {
  const holders = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  const ports: number[] = [];
  for (const holder of holders) {
    if (!holder.listening) await once(holder, "listening");
    const address = holder.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    ports.push(address.port);
  }
  for (const holder of holders) {
    holder.close();
    await once(holder, "close");
  }
  return ports;
}

export class BareServer implements AsyncDisposable {
  readonly dir: string;
  readonly port: number;
  #child: ChildProcess | undefined;
  readonly #binary: string;

  private constructor(binary: string, dir: string, port: number) {
    this.#binary = binary;
    this.dir = dir;
    this.port = port;
  }

  /** Makes the folder; nothing runs before `start`. */
  static async make(port?: number): Promise<BareServer> {
    const [free = 0] = port === undefined ? await freePorts(1) : [port];
    return new BareServer(await natsBinary(), await mkdtemp(join(tmpdir(), "driftmesh-bare-")), free);
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get #logPath(): string {
    return join(this.dir, "log");
  }

  /** Lines of the server's log so far. */
  async log(): Promise<string[]> {
    return (await readFile(this.#logPath, "utf8")).split("\n");
  }

  /** Writes what the next start or `reload` reads; `jetstream` and the rest are the test's, the address is ours. */
  async configure(lines: readonly string[]): Promise<void> {
    await writeFile(join(this.dir, "conf"), [`listen: "127.0.0.1:${this.port}"`, ...lines, ""].join("\n"));
  }

  /** Starts and waits until it listens. */
  async start(): Promise<void> {
    await mkdir(this.dir, { recursive: true });
    await appendFile(this.#logPath, "");
    const seen = (await this.log()).length;
    const child = spawn(this.#binary, ["-c", join(this.dir, "conf"), "-l", this.#logPath], { stdio: "ignore" });
    this.#child = child;
    await until("nats-server listens", async () => {
      if (child.exitCode !== null) throw new Error(`nats-server ended: ${(await this.log()).slice(-5).join("\n")}`);
      return (await this.log()).slice(seen - 1).some((line) => line.includes("Server is ready"));
    });
  }

  /** Reads the configuration again and waits until the server says so. */
  async reload(): Promise<void> {
    const told = async (): Promise<number> =>
      (await this.log()).filter((line) => line.includes("Reloaded server configuration")).length;
    const before = await told();
    this.signal("SIGHUP");
    await until("the configuration is read again", async () => (await told()) > before);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Ends it and waits until it is gone. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill(signal);
    await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
    await rm(this.dir, { recursive: true, force: true });
  }
}
