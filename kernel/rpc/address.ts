// Where to listen and what to call: "host:port" or "unix:/path".
// A1 Only loopback addresses and unix sockets are listened on.
import { unlinkSync } from "node:fs";
import { connect, type AddressInfo, type Server } from "node:net";
import { MeshError } from "../fault/error.ts";

export type ListenAddress = { kind: "tcp"; host: string; port: number } | { kind: "unix"; path: string };

/** Reads "127.0.0.1:0", "localhost:80", "[::1]:0" or "unix:/path". */
export function parseAddress(address: string): ListenAddress {
  if (address.startsWith("unix:")) return { kind: "unix", path: address.slice("unix:".length) };
  const at = address.lastIndexOf(":");
  const host = address.slice(0, at).replace(/^\[(.*)\]$/, "$1");
  const port = Number(address.slice(at + 1));
  if (at <= 0 || host === "" || !Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new MeshError("DM-1002", `"${address}" is not an address: expected host:port or unix:/path`);
  }
  return { kind: "tcp", host, port };
}

/** The same, refused with DM-6006 when it is not on this machine only. */
function parseListen(listen: string): ListenAddress {
  const address = parseAddress(listen);
  if (address.kind === "tcp" && !isLoopback(address.host)) {
    throw new MeshError("DM-6006", `cannot listen on ${address.host}: only loopback addresses are allowed`);
  }
  return address;
}

/** "host:port", IPv6 in brackets. */
function formatAddress(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** What a failed bind means. */
function bindError(listen: string, cause: unknown): Error {
  const says = cause instanceof Error ? cause.message : String(cause);
  if (says.includes("EADDRINUSE")) {
    const address = parseAddress(listen);
    const what = address.kind === "tcp" ? `port ${address.port} on ${address.host}` : address.path;
    return new MeshError("DM-6004", `${what} is taken by another program`, { cause });
  }
  return new Error(`cannot listen on ${listen}: ${says}`, { cause });
}

/** Binds and returns the address as clients write it; DM-6006, DM-6004. */
export async function bind(server: Server, listen: string): Promise<string> {
  const wanted = parseListen(listen);
  if (wanted.kind === "unix") await removeStaleSocket(wanted.path);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", (error) => reject(bindError(listen, error)));
  server.listen(wanted.kind === "unix" ? { path: wanted.path } : { host: wanted.host, port: wanted.port }, resolve);
  await promise;
  if (wanted.kind === "unix") return `unix:${wanted.path}`;
  const { address, port } = server.address() as AddressInfo;
  return formatAddress(wanted.host === "localhost" ? "localhost" : address, port);
}

/** Removes a socket file that nobody answers on; leaves a living one, so that binding then fails with DM-6004. */
async function removeStaleSocket(path: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = connect({ path });
  probe.once("connect", () => resolve(true));
  probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code !== "ECONNREFUSED"));
  const leave = await promise;
  probe.destroy();
  if (!leave) unlinkSync(path);
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}
