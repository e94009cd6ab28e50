// One call carried as bytes between a caller's HTTP/2 stream and a stream to an upstream: headers, data, trailers, cancellation.
// Hot path: callbacks instead of promises and pipes (a pipeline of web streams cost three times the CPU for small calls).
// R1 `ended` is told exactly once. R2 Neither side is written faster than it reads. R3 What was read of the request is kept, up to 1 MiB
// and until the upstream answers, so that a refused call can be sent elsewhere. R4 A caller who goes away cancels upstream.
import * as http2 from "node:http2";

const { NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR, NGHTTP2_REFUSED_STREAM } = http2.constants;
const KEEP_BYTES = 1 << 20;
const END_STREAM_FLAG = 1;

/** What was read of a request so far. */
export type RequestBody = {
  chunks: Buffer[];
  bytes: number;
  ended: boolean;
  /** False once chunks were let go. */ whole: boolean;
};

/** Nothing read yet. A paused stream still ends when nothing is buffered, so the end is watched from the start. */
export function bodyOf(stream: http2.ServerHttp2Stream): RequestBody {
  const body: RequestBody = { chunks: [], bytes: 0, ended: false, whole: true };
  stream.once("end", () => (body.ended = true));
  return body;
}

export type Outcome =
  /** Everything was carried; `grpcStatus` when the upstream said one. */
  | { kind: "answered"; httpStatus: number; grpcStatus: string | undefined }
  /** The upstream never began the call, and nothing was said to the caller. */
  | { kind: "refused" }
  /** The upstream broke off before it answered; the caller has heard nothing. */
  | { kind: "broken" }
  /** The upstream broke off inside its answer. */
  | { kind: "cut" }
  | { kind: "cancelled" };

export type Relaying = {
  /** Ends the call towards both sides; the caller has heard nothing if this returns true. */
  stop(): boolean;
};

export function relay(options: {
  down: http2.ServerHttp2Stream;
  session: http2.ClientHttp2Session;
  headers: http2.OutgoingHttpHeaders;
  body: RequestBody;
  /** Added to the answer's headers. */
  extra: http2.OutgoingHttpHeaders;
  /** Trailers for an answer that was cut (gRPC); without them the stream is reset. */
  cutTrailers?: http2.OutgoingHttpHeaders;
  ended: (outcome: Outcome) => void;
}): Relaying {
  const { body, down, ended, extra, headers, session } = options;
  let up: http2.ClientHttp2Stream;
  try {
    up = session.request(headers);
  } catch {
    queueMicrotask(() => ended({ kind: "refused" }));
    return { stop: () => true };
  }
  let done = false;
  let answering = false;
  let trailers: http2.OutgoingHttpHeaders = {};
  let httpStatus = 0;
  let grpcStatus: string | undefined;

  function finish(outcome: Outcome): void {
    if (done) return;
    done = true;
    down.off("data", onRequestData);
    down.off("end", onRequestEnd);
    down.off("close", onCallerGone);
    if (outcome.kind === "answered") {
      // An answer before the request's end: the rest of it is read away, the upstream hears no more.
      if (!up.writableEnded) up.close(NGHTTP2_NO_ERROR);
      down.resume();
    } else {
      down.pause();
      if (!up.closed) up.close(NGHTTP2_CANCEL);
    }
    ended(outcome);
  }
  function cut(): void {
    if (down.destroyed) return;
    if (options.cutTrailers === undefined) return down.close(NGHTTP2_INTERNAL_ERROR);
    trailers = options.cutTrailers;
    down.end();
  }
  function onRequestData(chunk: Buffer): void {
    keep(body, chunk, answering);
    if (!up.write(chunk)) {
      down.pause();
      up.once("drain", () => down.resume());
    }
  }
  function onRequestEnd(): void {
    if (!up.writableEnded) up.end();
  }
  function onCallerGone(): void {
    finish({ kind: "cancelled" });
  }

  up.on("response", (answer, flags) => {
    if (done || down.destroyed || down.closed) return;
    answering = true;
    httpStatus = answer[":status"] ?? 0;
    const out = answerHeaders(answer, extra);
    if ((flags & END_STREAM_FLAG) !== 0) {
      grpcStatus = textOf(answer["grpc-status"]);
      down.respond(out, { endStream: true });
      return finish({ kind: "answered", httpStatus, grpcStatus });
    }
    down.respond(out, { waitForTrailers: true });
    down.once("wantTrailers", () => {
      if (!down.destroyed && !down.closed) down.sendTrailers(trailers);
    });
  });
  up.on("data", (chunk: Buffer) => {
    if (done || down.destroyed) return;
    if (!down.write(chunk)) {
      up.pause();
      down.once("drain", () => up.resume());
    }
  });
  up.on("trailers", (sent) => {
    grpcStatus = textOf(sent["grpc-status"]);
    trailers = withoutPseudo(sent);
  });
  up.on("end", () => {
    if (done || !answering || up.rstCode !== NGHTTP2_NO_ERROR) return;
    if (!down.destroyed) down.end();
    finish({ kind: "answered", httpStatus, grpcStatus });
  });
  up.on("error", () => undefined);
  up.on("close", () => {
    if (done) return;
    if (!answering) return finish({ kind: up.rstCode === NGHTTP2_REFUSED_STREAM ? "refused" : "broken" });
    cut();
    finish({ kind: "cut" });
  });

  down.on("data", onRequestData);
  down.once("end", onRequestEnd);
  down.once("close", onCallerGone);
  for (const chunk of body.chunks) up.write(chunk);
  if (body.ended) up.end();
  else down.resume();
  return {
    stop() {
      if (done) return false;
      const silent = !answering;
      if (!silent) cut();
      finish({ kind: silent ? "broken" : "cut" });
      return silent;
    },
  };
}

/** Remembers a chunk while the call may still have to be sent elsewhere (R3). */
function keep(body: RequestBody, chunk: Buffer, answering: boolean): void {
  body.bytes += chunk.length;
  if (!body.whole) return;
  if (answering || body.bytes > KEEP_BYTES) {
    body.whole = false;
    body.chunks = [];
  } else body.chunks.push(chunk);
}

const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "host",
  "te",
]);

/** The caller's headers for the upstream: what belongs to one hop is left out. */
export function requestHeaders(
  headers: http2.IncomingHttpHeaders,
  authority: string,
  changes: Readonly<Record<string, string | undefined>>,
): http2.OutgoingHttpHeaders {
  const out: http2.OutgoingHttpHeaders = {};
  for (const name in headers) {
    if (name.charCodeAt(0) !== 58 && !HOP_BY_HOP.has(name)) out[name] = headers[name];
  }
  for (const name in changes) if (changes[name] !== undefined) out[name] = changes[name];
  out[":method"] = headers[":method"] ?? "POST";
  out[":path"] = headers[":path"];
  out[":scheme"] = "http";
  out[":authority"] = authority;
  out["te"] = "trailers";
  return out;
}

/** An upstream's headers for the caller. */
export function answerHeaders(
  headers: http2.IncomingHttpHeaders,
  extra: http2.OutgoingHttpHeaders,
): http2.OutgoingHttpHeaders {
  const out = withoutPseudo(headers);
  out[":status"] = headers[":status"];
  for (const name in extra) out[name] = extra[name];
  return out;
}

function withoutPseudo(headers: http2.IncomingHttpHeaders): http2.OutgoingHttpHeaders {
  const out: http2.OutgoingHttpHeaders = {};
  for (const name in headers) {
    if (name.charCodeAt(0) !== 58 && !HOP_BY_HOP.has(name)) out[name] = headers[name];
  }
  return out;
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
