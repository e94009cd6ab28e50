// The Open Inference Protocol at the edge: reads the model's name out of the first frame, picks a replica, carries the bytes.
// I1 A call is sent to another replica once, and only if the first never began it. I2 Without a deadline a unary call gets 30 s.
// I3 What the gateway refuses, it refuses as gRPC does: trailers only, with details. I4 At most 64 MiB of one message is accepted.
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { promisify } from "node:util";
import { gunzip, inflate } from "node:zlib";
import type { Clock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { GRPC } from "#kernel/fault/table.ts";
import type { Logger } from "#kernel/process/log.ts";
import type { Metrics } from "#kernel/process/metrics.ts";
import { startSpan, type Span } from "#kernel/process/trace.ts";
import { statusOf } from "#kernel/rpc/faults.ts";
import { nameIn, peekName, pickOf, type RouteTable } from "../route/door.ts";
import { timeoutMsOf, type Deadlines, type Expiring } from "./deadlines.ts";
import { bodyOf, relay, requestHeaders, type Outcome, type Relaying, type RequestBody } from "./relay.ts";
import { callerOf, framed, grpcHeaders, refusalOf, sendRefusal } from "./reply.ts";
import type { Upstream, Upstreams } from "./upstreams.ts";

const OIP_PREFIX = "/inference.GRPCInferenceService/";
const MAX_MESSAGE_BYTES = 64 << 20;
const DEADLINE_MS = 30_000;
const NAMED_METHODS = new Set(["ModelInfer", "ModelStreamInfer", "ModelReady", "ModelMetadata"]);
const READY_FALSE = framed(0, new Uint8Array(0));
const decompress: Readonly<Record<string, (bytes: Uint8Array, options: object) => Promise<Buffer>>> = {
  gzip: promisify(gunzip),
  deflate: promisify(inflate),
};

export type InferenceDeps = {
  routes: () => RouteTable | undefined;
  upstreams: Upstreams;
  deadlines: Deadlines;
  clock: Clock;
  rand: Rand;
  log: Logger;
  metrics: Metrics;
  /** Answers of the gateway itself, as encoded messages by method: ServerLive and the like. */
  answers: Readonly<Record<string, () => Uint8Array>>;
};

export class InferenceForwarder {
  readonly #deps: InferenceDeps;
  readonly #requests;
  readonly #inferences;
  readonly #seconds;

  constructor(deps: InferenceDeps) {
    this.#deps = deps;
    const { metrics } = deps;
    this.#requests = metrics.counter("driftmesh_gateway_requests_total", "Calls by method and gRPC code.", [
      "method",
      "code",
    ]);
    this.#inferences = metrics.counter("driftmesh_gateway_model_requests_total", "Calls by model and gRPC code.", [
      "model",
      "code",
    ]);
    this.#seconds = metrics.histogram(
      "driftmesh_gateway_seconds",
      "Time from a call's headers to its end.",
      [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5],
      ["method"],
    );
  }

  /** Takes a gRPC stream of the protocol; false when it is none. */
  take(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): boolean {
    const path = headers[":path"] ?? "";
    if (!path.startsWith(OIP_PREFIX) || callerOf(headers).protocol !== "grpc") return false;
    const method = path.slice(OIP_PREFIX.length);
    const call = new Call(method, stream, headers, this.#deps, (code, model, ms) => {
      const known = NAMED_METHODS.has(method) || method in this.#deps.answers ? method : "other";
      this.#requests.inc({ method: known, code: String(code) });
      if (model !== undefined) this.#inferences.inc({ model, code: String(code) });
      this.#seconds.observe({ method: known }, ms / 1_000);
    });
    call.start();
    return true;
  }
}

/** One inference call from its headers to its end. */
class Call implements Expiring {
  untilMs = Number.POSITIVE_INFINITY;
  readonly #method: string;
  readonly #stream: ServerHttp2Stream;
  readonly #headers: IncomingHttpHeaders;
  readonly #deps: InferenceDeps;
  readonly #count: (code: number | string, model: string | undefined, ms: number) => void;
  readonly #body: RequestBody;
  readonly #startMs: number;
  #span: Span | undefined;
  #model: string | undefined;
  #relaying: Relaying | undefined;
  #ended = false;

  constructor(
    method: string,
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    deps: InferenceDeps,
    count: (code: number | string, model: string | undefined, ms: number) => void,
  ) {
    this.#method = method;
    this.#stream = stream;
    this.#headers = headers;
    this.#deps = deps;
    this.#count = count;
    this.#body = bodyOf(stream);
    this.#startMs = deps.clock.monotonicMs();
  }

  start(): void {
    this.#stream.on("error", () => undefined);
    const answer = this.#deps.answers[this.#method];
    if (answer !== undefined) return this.#answer(framed(0, answer()));
    if (!NAMED_METHODS.has(this.#method))
      return this.refuse(new MeshError("DM-7001", `${this.#method} is not served by the gateway`));
    const timeoutMs = timeoutMsOf(this.#headers) ?? (this.#method === "ModelStreamInfer" ? undefined : DEADLINE_MS);
    if (timeoutMs !== undefined) {
      this.untilMs = this.#startMs + timeoutMs;
      this.#deps.deadlines.add(this);
    }
    this.#span = startSpan(`gateway.${this.#method}`, textOf(this.#headers["traceparent"]));
    this.#readName();
  }

  expire(): void {
    const error = new MeshError("DM-3007", "the deadline passed before the replica answered");
    if (this.#relaying === undefined || this.#relaying.stop()) this.refuse(error);
  }

  refuse(error: MeshError): void {
    if (this.#ended) return;
    sendRefusal(this.#stream, refusalOf(error, callerOf(this.#headers)), {});
    this.#span?.fail(error.fault);
    this.#end(error.row.code);
  }

  /** Reads until the name is known, then routes. */
  #readName(): void {
    const stream = this.#stream;
    let wanted = 0;
    const look = (): void => {
      const body = this.#body;
      if (body.bytes < wanted && !body.ended) return;
      const seen = peekName(joined(body), MAX_MESSAGE_BYTES);
      switch (seen.kind) {
        case "more":
        case "compressed":
          // Looking again only after twice as much, so that a name at the very end costs no more than reading twice.
          wanted = Math.max(seen.bytes, Math.min(frameEnd(body), body.bytes * 2));
          if (seen.kind === "compressed" && body.bytes >= wanted)
            return stopReading(() => void this.#nameOfCompressed(seen.bytes));
          if (body.ended) return stopReading(() => this.refuse(malformed("it ends inside its first message")));
          return;
        case "name":
          return stopReading(() => this.#route(seen.name));
        case "too-large":
          return stopReading(() => this.refuse(tooLarge(seen.bytes)));
        case "malformed":
          return stopReading(() => this.refuse(malformed(seen.why)));
      }
    };
    const onData = (chunk: Buffer): void => {
      this.#body.chunks.push(chunk);
      this.#body.bytes += chunk.length;
      look();
    };
    const onEnd = (): void => look();
    const onClose = (): void => {
      if (!this.#ended) this.#end(GRPC.CANCELLED);
    };
    const stopReading = (next: () => void): void => {
      stream.off("data", onData).off("end", onEnd).off("close", onClose);
      stream.pause();
      if (!this.#ended) next();
    };
    stream.on("data", onData).once("end", onEnd).once("close", onClose);
  }

  async #nameOfCompressed(end: number): Promise<void> {
    const encoding = textOf(this.#headers["grpc-encoding"]) ?? "identity";
    const open = decompress[encoding];
    if (open === undefined)
      return this.refuse(
        new MeshError("DM-7001", `the encoding "${encoding}" is not known here: use gzip, deflate or identity`),
      );
    try {
      const message = await open(joined(this.#body).subarray(5, end), { maxOutputLength: MAX_MESSAGE_BYTES });
      const seen = nameIn(message, 0, message.length);
      if (seen.kind === "name") this.#route(seen.name);
      else this.refuse(malformed("the compressed message cannot be read"));
    } catch (error) {
      const big = error instanceof Error && "code" in error && error.code === "ERR_BUFFER_TOO_LARGE";
      this.refuse(big ? tooLarge(MAX_MESSAGE_BYTES + 1) : malformed("the compressed message cannot be read"));
    }
  }

  #route(name: string): void {
    const { clock, rand, routes } = this.#deps;
    if (name === "") {
      const violations = [{ field: "model_name", description: "expected a model or a deployment id" }];
      return this.refuse(new MeshError("DM-1002", "the request names no model", { violations }));
    }
    const table = routes();
    if (table === undefined)
      return this.refuse(new MeshError("DM-3003", "the gateway has not heard from the control plane yet"));
    const decision = table.decide(name, clock.wallMs(), rand);
    this.#model = decision.model;
    if (decision.kind === "endpoints") this.#span?.set("model", decision.model);
    if (decision.kind === "refused") {
      if (decision.error.fault === "DM-3003" && this.#method === "ModelReady") return this.#answer(READY_FALSE);
      return this.refuse(decision.error);
    }
    this.#body.whole = true;
    this.#send(decision.endpoints, undefined);
  }

  /** Sends to one of `endpoints`; `refusedBy` is the replica that did not take it. */
  #send(endpoints: readonly string[], refusedBy: Upstream | undefined): void {
    const { clock, rand, upstreams } = this.#deps;
    const candidates = endpoints.map((address) => upstreams.at(address)).filter((one) => one !== refusedBy);
    const among = candidates.length > 0 || refusedBy === undefined ? candidates : [refusedBy];
    const upstream = among[pickOf(among, clock.monotonicMs(), rand) ?? 0];
    if (upstream === undefined) return this.refuse(noReplica(this.#model));
    const session = upstreams.ready(upstream);
    const again = (): void => {
      if (refusedBy === undefined) this.#send(endpoints, upstream);
      else this.refuse(noReplica(this.#model));
    };
    if (session !== undefined) return this.#carry(upstream, session, again);
    upstreams.connect(upstream).then(
      (opened) => (this.#ended ? undefined : this.#carry(upstream, opened, again)),
      () => (this.#ended ? undefined : again()),
    );
  }

  #carry(upstream: Upstream, session: Parameters<typeof relay>[0]["session"], again: () => void): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return this.#end(GRPC.CANCELLED);
    upstream.inFlight += 1;
    this.#relaying = relay({
      down: stream,
      session,
      headers: requestHeaders(this.#headers, upstream.address, {
        traceparent: this.#span?.traceparent,
        "grpc-timeout":
          this.#headers["grpc-timeout"] === undefined && this.untilMs !== Number.POSITIVE_INFINITY
            ? `${DEADLINE_MS}m`
            : undefined,
      }),
      body: this.#body,
      extra: {},
      cutTrailers: CUT_TRAILERS,
      ended: (outcome) => {
        upstream.inFlight -= 1;
        this.#relaying = undefined;
        this.#after(outcome, again);
      },
    });
  }

  #after(outcome: Outcome, again: () => void): void {
    if (this.#ended) return;
    switch (outcome.kind) {
      case "answered":
        return this.#end(Number(outcome.grpcStatus ?? GRPC.UNKNOWN));
      case "refused":
        return this.#body.whole ? again() : this.refuse(noReplica(this.#model));
      case "broken":
        if (this.#deps.clock.monotonicMs() >= this.untilMs) return;
        return this.refuse(new MeshError("DM-3003", "the replica went away during the call"));
      case "cut":
        return this.#end(GRPC.UNAVAILABLE);
      case "cancelled":
        return this.#end(GRPC.CANCELLED);
    }
  }

  #answer(frame: Uint8Array): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return this.#end(GRPC.CANCELLED);
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.once("wantTrailers", () => {
      if (!stream.destroyed) stream.sendTrailers({ "grpc-status": "0" });
    });
    stream.end(frame);
    stream.resume();
    this.#end(GRPC_OK);
  }

  #end(code: number): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#deps.deadlines.remove(this);
    this.#span?.set("rpc.grpc.status_code", code);
    this.#span?.end();
    this.#count(code, this.#model, this.#deps.clock.monotonicMs() - this.#startMs);
  }
}

const GRPC_OK = 0;
const CUT_TRAILERS = grpcHeaders(statusOf(new MeshError("DM-3003", "the replica went away during its answer")));

function joined(body: RequestBody): Buffer {
  if (body.chunks.length > 1) body.chunks = [Buffer.concat(body.chunks)];
  return body.chunks[0] ?? Buffer.alloc(0);
}

function frameEnd(body: RequestBody): number {
  const head = joined(body);
  return head.length < 5 ? 5 : 5 + head.readUInt32BE(1);
}

function noReplica(model: string | undefined): MeshError {
  return new MeshError("DM-3003", `no replica of "${model ?? ""}" takes calls at the moment`);
}

function tooLarge(bytes: number): MeshError {
  return new MeshError("DM-3008", `the message has ${bytes} bytes, more than the limit of ${MAX_MESSAGE_BYTES}`);
}

function malformed(why: string): MeshError {
  return new MeshError("DM-1002", `the request cannot be read: ${why}`);
}

function textOf(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}
