// Finds the agent of a data folder.
import { connect } from "node:net";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { HOST_FILE, type HostFile, parseHostFile } from "#kernel/domain/host.ts";
import { isAlive } from "#kernel/store/lock.ts";

/** agent.json of a data folder, when there is one. */
export async function readHost(data: string): Promise<HostFile | undefined> {
  return parseHostFile(await readFile(join(data, HOST_FILE), "utf8").catch(() => ""));
}

/** The same, when its agent answers. */
export async function livingHost(data: string): Promise<HostFile | undefined> {
  const host = await readHost(data);
  // A process that was just killed may answer until its last thread is gone, so its mark is asked first.
  return host !== undefined && (await isAlive(host.agent)) && (await answers(host.socket)) ? host : undefined;
}

/** Whether somebody listens on a unix socket. */
export async function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ path });
  socket.once("connect", () => resolve(true));
  socket.once("error", () => resolve(false));
  const living = await promise;
  socket.destroy();
  return living;
}
