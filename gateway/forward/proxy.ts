// The control APIs behind the edge: carried as bytes to the control plane or the drift service, in whatever protocol the caller speaks.
// X1 Buffers are bounded: each side is read no faster than the other takes. X2 An upstream that is away is UNAVAILABLE in the caller's protocol.
// X3 Unary calls without a deadline end after 60 s. X4 When the gateway stops, streams end with UNAVAILABLE so that callers begin again.
import type { IncomingMessage, ServerResponse } from "node:http";
import * as http2 from "node:http2";
import type { DescService } from "@bufbuild/protobuf";
import { MeshError } from "#kernel/fault/error.ts";
import type { Logger } from "#kernel/process/log.ts";
import type { Metrics } from "#kernel/process/metrics.ts";
import { statusOf } from "#kernel/rpc/faults.ts";
import { timeoutMsOf, type Deadlines, type Expiring } from "./deadlines.ts";
import { answerHeaders, bodyOf, relay, requestHeaders, type Outcome, type Relaying } from "./relay.ts";
import { callerOf, grpcHeaders, refusalOf, sendRefusal, type Caller } from "./reply.ts";
import type { Upstream, Upstreams } from "./upstreams.ts";

const UNARY_MS = 60_000;
/** The upstream answers at the caller's deadline by itself; this long after, the gateway does. */
const SLACK_MS = 1_000;

type Target = { address: string; what: string };
type Method = { label: string; unary: boolean };
type Headers = http2.IncomingHttpHeaders;

export class Proxy {
  readonly #targets = new Map<string, Target>();
  readonly #methods = new Map<string, Method>();
  readonly #deps: { upstreams: Upstreams; deadlines: Deadlines; log: Logger };
  readonly #streams = new Set<Proxied>();
  readonly #requests;

  constructor(
    routes: readonly { service: DescService; target: Target }[],
    deps: { upstreams: Upstreams; deadlines: Deadlines; log: Logger; metrics: Metrics },
  ) {
    this.#deps = deps;
    for (const { service, target } of routes) {
      this.#targets.set(service.typeName, target);
      for (const { name, methodKind } of service.methods) {
        const label = `${service.typeName}/${name}`;
        this.#methods.set(`/${label}`, { label, unary: methodKind === "unary" });
      }
    }
    this.#requests = deps.metrics.counter("driftmesh_gateway_requests_total", "Calls by method and gRPC code.", [
      "method",
      "code",
    ]);
  }

  /** Takes an HTTP/2 stream of one of the proxied services; false when it is none. */
  take(stream: http2.ServerHttp2Stream, headers: Headers, extra: http2.OutgoingHttpHeaders): boolean {
    const call = this.#call(headers);
    if (call === undefined) return false;
    stream.on("error", () => undefined);
    call.refuse = (error) => sendRefusal(stream, refusalOf(error, call.caller), extra);
    const body = bodyOf(stream);
    const grpc = call.caller.protocol === "grpc";
    const send = (again: boolean): void =>
      this.#withSession(call, (upstream, session) => {
        if (stream.destroyed || stream.closed) return call.end("1");
        call.relaying = relay({
          down: stream,
          session,
          headers: requestHeaders(headers, upstream.address, {}),
          body,
          extra,
          ...(grpc ? { cutTrailers: CUT_TRAILERS } : {}),
          ended: (outcome) => {
            upstream.inFlight -= 1;
            if (outcome.kind === "refused" && again && body.whole) send(false);
            else call.after(outcome);
          },
        });
      });
    send(true);
    return true;
  }

  /** Takes an HTTP/1.1 request of one of the proxied services; headers set on the response are sent along. */
  takeHttp1(request: IncomingMessage, response: ServerResponse): boolean {
    const headers: Headers = { ...request.headers, ":method": request.method ?? "POST", ":path": request.url ?? "" };
    const call = this.#call(headers);
    if (call === undefined) return false;
    call.refuse = (error) => {
      request.resume();
      if (response.headersSent) return void response.destroy();
      const refusal = refusalOf(error, call.caller);
      response.writeHead(refusal.httpStatus, refusal.headers).end(refusal.body);
    };
    this.#withSession(call, (upstream, session) => {
      call.relaying = relayHttp1(
        { request, response, session },
        requestHeaders(headers, upstream.address, {}),
        (outcome) => {
          upstream.inFlight -= 1;
          call.after(outcome);
        },
      );
    });
    return true;
  }

  /** Ends the streams in flight (X4). */
  stopStreams(): void {
    for (const call of this.#streams) call.stop(new MeshError("DM-6007", "the gateway is stopping; call again"));
  }

  #call(headers: Headers): Proxied | undefined {
    const path = (headers[":path"] ?? "").split("?", 1)[0] ?? "";
    const target = this.#targets.get(path.slice(1, path.lastIndexOf("/")));
    if (target === undefined) return undefined;
    const { label, unary } = this.#methods.get(path) ?? { label: "other", unary: true };
    const given = timeoutMsOf(headers);
    const call = new Proxied(callerOf(headers), target, (code) => {
      this.#deps.deadlines.remove(call);
      this.#streams.delete(call);
      this.#requests.inc({ method: label, code });
    });
    const ms = given === undefined ? (unary ? UNARY_MS : undefined) : given + SLACK_MS;
    if (ms !== undefined) {
      call.untilMs = this.#deps.deadlines.after(ms);
      this.#deps.deadlines.add(call);
    }
    if (!unary) this.#streams.add(call);
    return call;
  }

  #withSession(call: Proxied, use: (upstream: Upstream, session: http2.ClientHttp2Session) => void): void {
    const { log, upstreams } = this.#deps;
    const upstream = upstreams.at(call.target.address);
    const begin = (session: http2.ClientHttp2Session): void => {
      if (call.ended) return;
      upstream.inFlight += 1;
      use(upstream, session);
    };
    const session = upstreams.ready(upstream);
    if (session !== undefined) return begin(session);
    upstreams.connect(upstream).then(begin, (error: unknown) => {
      log.debug("gateway.upstream-away", { address: upstream.address, error });
      call.away();
    });
  }
}

/** One proxied call: who asked, and how it ends. */
class Proxied implements Expiring {
  untilMs = Number.POSITIVE_INFINITY;
  ended = false;
  relaying: Relaying | undefined;
  refuse: (error: MeshError) => void = () => undefined;
  readonly caller: Caller;
  readonly target: Target;
  readonly #count: (code: string) => void;

  constructor(caller: Caller, target: Target, count: (code: string) => void) {
    this.caller = caller;
    this.target = target;
    this.#count = count;
  }

  end(code: string): void {
    if (this.ended) return;
    this.ended = true;
    this.#count(code);
  }

  /** Says `error` to the caller, unless an answer has begun: that is cut. */
  stop(error: MeshError): void {
    if (this.ended) return;
    const relaying = this.relaying;
    this.end(String(error.row.code));
    if (relaying === undefined || relaying.stop()) this.refuse(error);
  }

  expire(): void {
    this.stop(new MeshError("DM-3007", `the deadline passed before ${this.target.what} answered`));
  }

  away(): void {
    this.stop(new MeshError("DM-6001", `${this.target.what} does not answer; try again in a moment`));
  }

  after(outcome: Outcome): void {
    this.relaying = undefined;
    switch (outcome.kind) {
      case "answered":
        return this.end(outcome.grpcStatus ?? (outcome.httpStatus === 200 ? "0" : `http-${outcome.httpStatus}`));
      case "refused":
      case "broken":
        return this.away();
      case "cut":
        return this.end("14");
      case "cancelled":
        return this.end("1");
    }
  }
}

const CUT_TRAILERS = grpcHeaders(statusOf(new MeshError("DM-6001", "the service went away during its answer")));

/** The same as `relay` for a caller on HTTP/1.1: Connect and gRPC-Web carry their trailers in the body. */
function relayHttp1(
  sides: { request: IncomingMessage; response: ServerResponse; session: http2.ClientHttp2Session },
  headers: http2.OutgoingHttpHeaders,
  ended: (outcome: Outcome) => void,
): Relaying {
  const { request, response } = sides;
  let done = false;
  let up: http2.ClientHttp2Stream;
  try {
    up = sides.session.request(headers);
  } catch {
    queueMicrotask(() => ended({ kind: "broken" }));
    return { stop: () => true };
  }
  const finish = (outcome: Outcome): void => {
    if (done) return;
    done = true;
    request.unpipe(up);
    request.resume();
    if (!up.closed)
      up.close(outcome.kind === "answered" ? http2.constants.NGHTTP2_NO_ERROR : http2.constants.NGHTTP2_CANCEL);
    ended(outcome);
  };
  let httpStatus = 0;
  up.on("response", (answer) => {
    if (done) return;
    httpStatus = answer[":status"] ?? 502;
    const { ":status": _status, ...out } = answerHeaders(answer, {});
    response.writeHead(httpStatus, out);
    up.pipe(response, { end: false });
  });
  up.on("end", () => {
    if (done || !response.headersSent || up.rstCode !== http2.constants.NGHTTP2_NO_ERROR) return;
    response.end();
    finish({ kind: "answered", httpStatus, grpcStatus: undefined });
  });
  up.on("error", () => undefined);
  up.on("close", () => {
    if (done) return;
    if (response.headersSent) response.destroy();
    finish({ kind: response.headersSent ? "cut" : "broken" });
  });
  response.on("close", () => finish({ kind: "cancelled" }));
  request.on("error", () => undefined);
  request.pipe(up);
  return {
    stop() {
      if (done) return false;
      const silent = !response.headersSent;
      if (!silent) response.destroy();
      finish({ kind: silent ? "broken" : "cut" });
      return silent;
    },
  };
}
