// The streams that must not leave a strict node: one file log per node and stream, under the node's folder.
// S1 Only nodes of this agent, only plain names: no request can reach outside the folder. S2 A log is opened once and shared.
import { join } from "node:path";
import { MeshError } from "#kernel/fault/error.ts";
import type { EventLog } from "#kernel/store/ports.ts";

export class NodeStreams {
  readonly #options: { nodes: string; names: readonly string[]; open: (folder: string) => Promise<EventLog> };
  readonly #logs = new Map<string, Promise<EventLog>>();

  constructor(options: { nodes: string; names: readonly string[]; open: (folder: string) => Promise<EventLog> }) {
    this.#options = options;
  }

  /** The log; DM-2004 when the node is not one of ours, DM-1002 when the stream's name is no plain name. */
  async of(node: string, stream: string): Promise<EventLog> {
    const { nodes, names, open } = this.#options;
    if (!names.includes(node))
      throw new MeshError("DM-2004", `no node is called "${node}"; there are ${names.join(", ")}`);
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(stream))
      throw new MeshError("DM-1002", `"${stream}" is no name of a stream: letters, digits, _ and - only`);
    const key = `${node}/${stream}`;
    const known = this.#logs.get(key);
    if (known !== undefined) return await known;
    const opening = open(join(nodes, node, "streams", stream));
    this.#logs.set(key, opening);
    opening.catch(() => this.#logs.delete(key));
    return await opening;
  }

  async close(): Promise<void> {
    const logs = await Promise.allSettled(this.#logs.values());
    for (const log of logs) if (log.status === "fulfilled") await log.value.close();
  }
}
