// Control APIs: a server that speaks gRPC, gRPC-Web and Connect, and gRPC clients. Home of connect.
// K1 Every server answers grpc.health.v1 and reflection. K2 A unary call has a deadline; a stream lives until one side ends it.
// K3 Draining finishes unary calls, then ends streams with UNAVAILABLE: their callers begin again elsewhere.
import type { DescService } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  createClient,
  createConnectRouter,
  type Client,
  type ConnectRouter,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import {
  createGrpcTransport,
  Http2SessionManager,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { connect as connectSocket } from "node:net";
import { Health as HealthService } from "#proto/grpc/health/v1/health_pb.ts";
import { ServerReflection as ReflectionV1 } from "#proto/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ReflectionV1Alpha } from "#proto/grpc/reflection/v1alpha/reflection_pb.ts";
import { systemClock } from "../base/clock.ts";
import { MeshError } from "../fault/error.ts";
import { GRPC } from "../fault/table.ts";
import type { Logger } from "../process/log.ts";
import type { Metrics } from "../process/metrics.ts";
import { parseAddress } from "./address.ts";
import { callerStatus, meshErrorFrom } from "./faults.ts";
import { Health } from "./health.ts";
import { listenHttp, respond, type HttpRequest, type HttpResponse, type StreamHandler } from "./listen.ts";
import { answerMetrics } from "./metrics-page.ts";
import { reflectionOf } from "./reflection.ts";

export { Code, ConnectError };
export type { Client, ConnectRouter, Interceptor };
export type { HandlerContext, ServiceImpl } from "@connectrpc/connect";

const MAX_MESSAGE_BYTES = 64 << 20;
const UNARY_DEADLINE_MS = 30_000;

export type ConnectServer = {
  /** "host:port" or "unix:/path". */
  address: string;
  /** What grpc.health.v1 says of a name; "" is the server. */
  setServing(name: string, serving: boolean | undefined): void;
  /** Refuses new calls, finishes those in flight, ends streams; resolves at the latest after `graceMs`. */
  drain(graceMs: number): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

export type ServeOptions = {
  /** "127.0.0.1:0" or "unix:/path". */
  listen: string;
  routes: (router: ConnectRouter) => void;
  log: Logger;
  /** Counts calls, and serves `GET /metrics`. */
  metrics?: Metrics;
  /** Sees each request first; true means it was answered. */
  http?: (request: HttpRequest, response: HttpResponse) => boolean;
  /** Sees each HTTP/2 stream before everything else; true means it was taken. */
  onStream?: StreamHandler;
  /** Services that are answered by `http` or `onStream`, so that health and reflection know them. */
  alsoServes?: readonly string[];
  maxMessageBytes?: number;
};

/** Serves `routes` over gRPC, gRPC-Web and Connect on one cleartext port, HTTP/1.1 and HTTP/2 alike. */
export async function serveConnect(options: ServeOptions): Promise<ConnectServer> {
  const stopping = new AbortController();
  const calls = new CallsInFlight();
  const router = createConnectRouter({
    interceptors: [accounting(options, calls, stopping.signal)],
    readMaxBytes: options.maxMessageBytes ?? MAX_MESSAGE_BYTES,
    shutdownSignal: stopping.signal,
    requireConnectProtocolHeader: false,
  });
  options.routes(router);
  const own = new Set(router.handlers.map((handler) => handler.service.typeName));
  const services = [...own, ...(options.alsoServes ?? [])];
  const health = new Health(services);
  addHealth(router, health);
  addReflection(router, [...services, HealthService.typeName, ReflectionV1.typeName, ReflectionV1Alpha.typeName]);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

  const listening = await listenHttp({
    listen: options.listen,
    log: options.log,
    ...(options.onStream === undefined ? {} : { onStream: options.onStream }),
    handler(request, response) {
      if (options.http?.(request, response) === true) return;
      const path = (request.url ?? "").split("?", 1)[0] ?? "";
      const handler = handlers.get(path);
      if (handler !== undefined) {
        void handler(universalRequestFromNodeRequest(request, response, undefined, undefined))
          .then((answer) => universalResponseToNodeResponse(answer, response))
          .catch((error: unknown) => options.log.debug("rpc.answer-not-sent", { path, error }));
      } else if (path === "/metrics" && options.metrics !== undefined) void answerMetrics(options.metrics, response);
      else answerUnknown(path, request, response);
    },
  });

  async function drain(graceMs: number): Promise<void> {
    health.stop();
    const ended = listening.drain(graceMs);
    await Promise.race([calls.none(), ended]);
    stopping.abort(toConnectError(new MeshError("DM-6007", "the service is stopping; call again")));
    await ended;
  }
  return {
    address: listening.address,
    setServing: (name, serving) => health.setServing(name, serving),
    drain,
    [Symbol.asyncDispose]: () => drain(0),
  };
}

/** Counts unary calls so that draining knows when the last one has ended. */
class CallsInFlight {
  #count = 0;
  #waiting: (() => void)[] = [];

  enter(): void {
    this.#count += 1;
  }

  leave(): void {
    this.#count -= 1;
    if (this.#count > 0) return;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  none(): Promise<void> {
    if (this.#count === 0) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    return promise;
  }
}

/** Translates what handlers throw, once; counts and times calls. */
function accounting({ log, metrics }: ServeOptions, calls: CallsInFlight, stopping: AbortSignal): Interceptor {
  const total = metrics?.counter("driftmesh_rpc_requests_total", "Calls answered, by method and code.", [
    "method",
    "code",
  ]);
  const seconds = metrics?.histogram(
    "driftmesh_rpc_seconds",
    "Time to answer a unary call.",
    [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10],
    ["method"],
  );
  const refuse = (method: string, thrown: unknown): ConnectError => {
    const error = toConnectError(thrown);
    if (error.code === Code.Internal || error.code === Code.Unknown)
      log.error("rpc.call-failed", { method, error: thrown });
    total?.inc({ method, code: Code[error.code] });
    return error;
  };
  async function* guarded<T>(method: string, messages: AsyncIterable<T>): AsyncIterable<T> {
    try {
      yield* messages;
      stopping.throwIfAborted();
      total?.inc({ method, code: "OK" });
    } catch (thrown) {
      throw refuse(method, thrown);
    }
  }
  return (next) => async (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    const startMs = systemClock.monotonicMs();
    if (!request.stream) calls.enter();
    try {
      const response = await next(request);
      if (response.stream) return { ...response, message: guarded(method, response.message) };
      total?.inc({ method, code: "OK" });
      return response;
    } catch (thrown) {
      throw refuse(method, thrown);
    } finally {
      if (!request.stream) {
        calls.leave();
        seconds?.observe({ method }, (systemClock.monotonicMs() - startMs) / 1_000);
      }
    }
  };
}

function addHealth(router: ConnectRouter, health: Health): void {
  router.service(HealthService, {
    check({ service }) {
      const status = health.status(service);
      if (status === undefined) throw new ConnectError(`no service is called "${service}" here`, Code.NotFound);
      return { status };
    },
    watch: ({ service }, context) => health.watch(service, context.signal),
  });
}

function addReflection(router: ConnectRouter, services: readonly string[]): void {
  const reflect = reflectionOf(services);
  router.service(ReflectionV1, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) yield reflect(request);
    },
  });
  router.service(ReflectionV1Alpha, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) yield reflect(request);
    },
  });
}

/** gRPC callers get UNIMPLEMENTED as gRPC says it; everybody else 404 with a sentence. */
export function answerUnknown(path: string, request: HttpRequest, response: HttpResponse): void {
  const type = String(request.headers["content-type"] ?? "");
  const says = `nothing is served at ${path}`;
  request.resume();
  if (/^application\/grpc(\+|;|$)/.test(type)) {
    const status = { "grpc-status": String(GRPC.UNIMPLEMENTED), "grpc-message": encodeURI(says) };
    respond(response, 200, { "content-type": type, ...status });
  } else respond(response, 404, { "content-type": "text/plain; charset=utf-8" }, `${says}\n`);
}

// ---- clients

const sessions = new Map<string, Http2SessionManager>();

/** A gRPC client over h2c; clients of one address share a connection, kept alive by pings. */
export function connectClient<S extends DescService>(
  service: S,
  address: string,
  options: { deadlineMs?: number; interceptors?: Interceptor[] } = {},
): Client<S> {
  const transport = createGrpcTransport({
    baseUrl: baseUrlOf(address),
    sessionManager: sessionOf(address),
    readMaxBytes: MAX_MESSAGE_BYTES,
    interceptors: options.interceptors ?? [],
  });
  return createClient(service, withUnaryDeadline(transport, options.deadlineMs ?? UNARY_DEADLINE_MS));
}

/** Closes the connections of all clients of this process, so that it can end. */
export function closeConnections(): void {
  for (const session of sessions.values()) session.abort();
  sessions.clear();
}

function withUnaryDeadline(transport: Transport, deadlineMs: number): Transport {
  return {
    unary: (method, signal, timeoutMs, header, input, contextValues) =>
      transport.unary(method, signal, timeoutMs ?? deadlineMs, header, input, contextValues),
    stream: (method, signal, timeoutMs, header, input, contextValues) =>
      transport.stream(method, signal, timeoutMs, header, input, contextValues),
  };
}

function baseUrlOf(address: string): string {
  return address.startsWith("unix:") ? "http://localhost" : `http://${address}`;
}

function sessionOf(address: string): Http2SessionManager {
  const known = sessions.get(address);
  if (known !== undefined) return known;
  const target = parseAddress(address);
  const session = new Http2SessionManager(
    baseUrlOf(address),
    { pingIntervalMs: 10_000, pingTimeoutMs: 5_000 },
    target.kind === "unix" ? { createConnection: () => connectSocket({ path: target.path }) } : {},
  );
  sessions.set(address, session);
  return session;
}

// ---- errors

/** What a caller sees of anything thrown; a ConnectError stays as it is. */
export function toConnectError(thrown: unknown): ConnectError {
  if (thrown instanceof ConnectError) return thrown;
  const { code, message, details } = callerStatus(thrown);
  return new ConnectError(message, code, undefined, details, thrown);
}

/** The MeshError that a server sent; DM-6007 when nothing answers at the address; else the error itself. */
export function fromConnectError(error: unknown): MeshError | Error {
  if (!(error instanceof ConnectError)) return error instanceof Error ? error : new Error(String(error));
  const details = error.details.flatMap((detail): Any[] =>
    "type" in detail
      ? [{ $typeName: "google.protobuf.Any", typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value }]
      : [],
  );
  const mesh = meshErrorFrom(error.rawMessage, details, error);
  if (mesh !== undefined) return mesh;
  if (error.code === Code.Unavailable && /ECONNREFUSED|ENOENT|ECONNRESET/.test(error.rawMessage))
    return new MeshError("DM-6007", `no mesh answers: ${error.rawMessage}`, { cause: error });
  if (error.code === Code.DeadlineExceeded)
    return new MeshError("DM-3007", "the deadline passed before the answer", { cause: error });
  return error;
}
