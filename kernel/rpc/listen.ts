// One cleartext port for HTTP/1.1 and HTTP/2 with prior knowledge: the first bytes of a connection decide.
// L1 Draining accepts nothing new, lets every request in flight end, and then closes; a client sees GOAWAY before its stream is refused.
// L2 After the grace everything is cut. L3 Disposing twice is harmless.
import { createServer as createHttp1, type IncomingMessage, type ServerResponse } from "node:http";
import * as http2 from "node:http2";
import { createServer as createNet, type Socket } from "node:net";
import { systemClock } from "../base/clock.ts";
import type { Logger } from "../process/log.ts";
import { bind } from "./address.ts";
import { decide } from "./first-bytes.ts";
import { SESSION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from "./windows.ts";

export type HttpRequest = IncomingMessage | http2.Http2ServerRequest;
export type HttpResponse = ServerResponse | http2.Http2ServerResponse;
export type HttpHandler = (request: HttpRequest, response: HttpResponse) => void;
/** Sees an HTTP/2 stream before the handler does; true means it was taken. */
export type StreamHandler = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => boolean;

export type Listening = {
  /** "host:port" or "unix:/path". */
  address: string;
  /** Finishes what is in flight; resolves when the last connection is closed, at the latest after `graceMs`. */
  drain(graceMs: number): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** Answers at once with `body`. */
export function respond(
  response: HttpResponse,
  status: number,
  headers: Readonly<Record<string, string>>,
  body = "",
): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  (response as ServerResponse).end(body);
}

/** On loopback a frame is seen within a millisecond; under load some more. */
const GOAWAY_SEEN_MS = 30;
const MAX_STREAM_ID = 2 ** 31 - 1;
const HTTP2: http2.ServerOptions = {
  settings: { initialWindowSize: STREAM_WINDOW_BYTES, maxConcurrentStreams: 4_096 },
  maxSessionMemory: 1_024,
  streamResetBurst: 20_000,
  streamResetRate: 2_000,
};

/** Listens on `listen` (loopback or unix socket) and hands requests over. */
export async function listenHttp(options: {
  listen: string;
  handler: HttpHandler;
  onStream?: StreamHandler;
  log: Logger;
}): Promise<Listening> {
  const sockets = new Set<Socket>();
  const sessions = new Set<http2.ServerHttp2Session>();
  const speaksHttp2 = new WeakSet<Socket>();
  /** Requests in flight of each HTTP/1.1 connection. */
  const busy = new Map<Socket, number>();
  const closed = Promise.withResolvers<void>();
  let draining = false;

  const http1 = createHttp1((request, response) => {
    const { socket } = request;
    busy.set(socket, (busy.get(socket) ?? 0) + 1);
    if (draining) response.setHeader("connection", "close");
    response.once("close", () => {
      const left = (busy.get(socket) ?? 1) - 1;
      busy.set(socket, left);
      if (draining && left === 0) socket.end();
    });
    options.handler(request, response);
  });
  http1.on("clientError", (_error, socket) => socket.destroy());

  const h2 = serveHttp2(options);
  h2.on("session", (session) => {
    sessions.add(session);
    session.setLocalWindowSize(SESSION_WINDOW_BYTES);
    session.once("close", () => sessions.delete(session));
    session.on("error", (error) => options.log.debug("rpc.session-failed", { error }));
    if (draining) void retire(session);
  });

  const server = createNet({ noDelay: true, pauseOnConnect: false }, (socket) => {
    if (draining) return void socket.destroy();
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => {
      sockets.delete(socket);
      busy.delete(socket);
      if (draining && sockets.size === 0) closed.resolve();
    });
    decide(socket, (protocol) => {
      if (protocol === "h2") speaksHttp2.add(socket);
      (protocol === "h2" ? h2 : http1).emit("connection", socket);
    });
  });
  const address = await bind(server, options.listen);

  async function drain(graceMs: number): Promise<void> {
    if (!draining) {
      draining = true;
      server.close();
      for (const session of sessions) void retire(session);
      for (const socket of sockets) if ((busy.get(socket) ?? 0) === 0 && !speaksHttp2.has(socket)) socket.destroy();
      if (sockets.size === 0) closed.resolve();
    }
    const cut = new AbortController();
    await Promise.race([closed.promise, systemClock.sleep(graceMs, cut.signal).catch(() => undefined)]);
    cut.abort();
    for (const session of sessions) session.destroy();
    for (const socket of sockets) socket.destroy();
  }
  return { address, drain, [Symbol.asyncDispose]: () => drain(0) };
}

/** An HTTP/2 server whose streams go to `onStream` first and to the handler (through node's compatible objects) second. */
function serveHttp2(options: { handler: HttpHandler; onStream?: StreamHandler }): http2.Http2Server {
  const compatible = http2.createServer(HTTP2, (request, response) => options.handler(request, response));
  if (options.onStream === undefined) return compatible;
  const { onStream } = options;
  const server = http2.createServer(HTTP2);
  server.on("stream", (stream, headers, flags, rawHeaders) => {
    if (!onStream(stream, headers)) compatible.emit("stream", stream, headers, flags, rawHeaders);
  });
  return server;
}

/** GOAWAY that refuses nothing yet, time for the client to see it (a ping is not answered once it closes), then GOAWAY for good. */
async function retire(session: http2.ServerHttp2Session): Promise<void> {
  if (session.closed || session.destroyed) return;
  session.goaway(http2.constants.NGHTTP2_NO_ERROR, MAX_STREAM_ID);
  await systemClock.sleep(GOAWAY_SEEN_MS);
  if (!session.destroyed) session.close();
}
