// A gRPC server on grpc-js for protobuf-es services: the serving side of a replica. Does not load connect.
// G1 Every server answers grpc.health.v1 and reflection. G2 A method without a handler answers UNIMPLEMENTED with a sentence.
// G3 Draining: unary calls in flight end, then streams end with UNAVAILABLE, then connections are cut after the grace.
// G4 A stream is written no faster than it is read. G5 With metrics, the same port answers `GET /metrics` over HTTP/1.1.
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type {
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import {
  Metadata,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { Health as HealthDesc } from "#proto/grpc/health/v1/health_pb.ts";
import { ServerReflection as ReflectionV1 } from "#proto/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ReflectionV1Alpha } from "#proto/grpc/reflection/v1alpha/reflection_pb.ts";
import { systemClock } from "../base/clock.ts";
import { MeshError } from "../fault/error.ts";
import { GRPC } from "../fault/table.ts";
import type { Logger } from "../process/log.ts";
import type { Metrics } from "../process/metrics.ts";
import { bind } from "./address.ts";
import { decide } from "./first-bytes.ts";
import { channelOptions, methodDefinition, toStatusObject } from "./grpcjs-wire.ts";
import { Health } from "./health.ts";
import { metricsServer } from "./metrics-page.ts";
import { reflectionOf } from "./reflection.ts";

export { grpcClient, type CallOptions, type GrpcClient } from "./grpcjs-client.ts";
export { grpcCodeOf } from "./grpcjs-wire.ts";

/** What a handler may know of its call, and add to the answer. */
export type GrpcCall = {
  /** Request headers by lower-case name. */
  readonly metadata: { get(name: string): string | undefined };
  /** Milliseconds left until the caller's deadline; undefined when it gave none. */
  readonly deadlineMs: number | undefined;
  /** Aborts when the caller cancels, its deadline passes, or (streams only) the server stops. */
  readonly signal: AbortSignal;
  /** Adds a response header; call before the first message. */
  setHeader(name: string, value: string): void;
  setTrailer(name: string, value: string): void;
};

type Answer<T> = T | Promise<T>;
/** Handlers by method name: unary ones return a message, streaming ones are async generators. */
export type GrpcHandlers<S extends DescService> = {
  [K in keyof S["method"]]: S["method"][K] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, call: GrpcCall) => Answer<MessageInitShape<O>>
    : S["method"][K] extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageShape<I>, call: GrpcCall) => AsyncIterable<MessageInitShape<O>>
      : S["method"][K] extends DescMethodClientStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageShape<I>>, call: GrpcCall) => Answer<MessageInitShape<O>>
        : S["method"][K] extends DescMethodBiDiStreaming<infer I, infer O>
          ? (requests: AsyncIterable<MessageShape<I>>, call: GrpcCall) => AsyncIterable<MessageInitShape<O>>
          : never;
};
/** A service with its handlers. */
export type GrpcService = { service: DescService; handlers: Readonly<Record<string, unknown>> };

export type GrpcServer = {
  /** "host:port" or "unix:/path". */
  address: string;
  /** What grpc.health.v1 says of a name; "" is the server, `undefined` forgets the name. */
  setServing(name: string, serving: boolean | undefined): void;
  drain(graceMs: number): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** Binds handlers to a service; what is missing answers UNIMPLEMENTED. */
export function grpcService<S extends DescService>(service: S, handlers: Partial<GrpcHandlers<S>>): GrpcService {
  return { service, handlers };
}

/**
 * How long a draining server still takes calls on connections it has. A call that crosses the GOAWAY on its way is lost to its
 * caller (seen twice in some hundred drains on a busy machine): so callers first hear that we left the route.
 */
const SETTLE_MS = 250;

/** Serves on a loopback address or a unix socket. */
export async function grpcServer(options: {
  listen: string;
  services: readonly GrpcService[];
  log: Logger;
  metrics?: Metrics;
  maxMessageBytes?: number;
}): Promise<GrpcServer> {
  const health = new Health(options.services.map(({ service }) => service.typeName));
  const stopping = new AbortController();
  const unary = { count: 0, idle: Promise.withResolvers<void>() };
  const scope: Scope = { log: options.log, stopping: stopping.signal, unary };
  const server = new Server({
    ...channelOptions(options.maxMessageBytes),
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
  });
  for (const service of withStandard(options.services, health)) {
    server.addService(definitionOf(service.service), implementationOf(service, scope));
  }
  // Connections are accepted here and handed over, so that they can be cut: grpc-js itself cuts none while channelz is off.
  const sockets = new Set<Socket>();
  const gone = Promise.withResolvers<void>();
  let draining = false;
  const connections = server.createConnectionInjector(ServerCredentials.createInsecure());
  const page = options.metrics === undefined ? undefined : metricsServer(options.metrics);
  const listener = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket
      .on("error", () => socket.destroy())
      .once("close", () => {
        sockets.delete(socket);
        if (draining && sockets.size === 0) gone.resolve();
      });
    if (page === undefined) connections.injectConnection(socket);
    else
      decide(socket, (protocol) =>
        protocol === "h2" ? connections.injectConnection(socket) : page.emit("connection", socket),
      );
  });
  const address = await bind(listener, options.listen);

  async function drain(graceMs: number): Promise<void> {
    health.stop();
    if (!draining) {
      draining = true;
      listener.close();
      if (graceMs > 0 && sockets.size > 0) await systemClock.sleep(Math.min(SETTLE_MS, graceMs / 2));
      server.tryShutdown(() => undefined);
      if (sockets.size === 0) gone.resolve();
    }
    const cut = new AbortController();
    const grace = systemClock.sleep(graceMs, cut.signal).catch(() => undefined);
    if (unary.count > 0) await Promise.race([unary.idle.promise, grace]);
    stopping.abort();
    await Promise.race([gone.promise, grace]);
    cut.abort();
    for (const socket of sockets) socket.destroy();
    server.forceShutdown();
  }
  return {
    address,
    setServing: (name, serving) => health.setServing(name, serving),
    drain,
    [Symbol.asyncDispose]: () => drain(0),
  };
}

type Scope = { log: Logger; stopping: AbortSignal; unary: { count: number; idle: PromiseWithResolvers<void> } };
type AnyServerCall =
  | ServerUnaryCall<unknown, unknown>
  | ServerWritableStream<unknown, unknown>
  | ServerReadableStream<unknown, unknown>
  | ServerDuplexStream<unknown, unknown>;

function withStandard(services: readonly GrpcService[], health: Health): GrpcService[] {
  const standard = [HealthDesc, ReflectionV1, ReflectionV1Alpha];
  const reflect = reflectionOf([
    ...services.map(({ service }) => service.typeName),
    ...standard.map((s) => s.typeName),
  ]);
  return [
    ...services,
    grpcService(HealthDesc, {
      check({ service }) {
        const status = health.status(service);
        if (status !== undefined) return { status };
        throw Object.assign(new Error(`no service is called "${service}" here`), { grpcCode: GRPC.NOT_FOUND });
      },
      watch: ({ service }, call) => health.watch(service, call.signal),
    }),
    grpcService(ReflectionV1, {
      async *serverReflectionInfo(requests) {
        for await (const request of requests) yield reflect(request);
      },
    }),
    grpcService(ReflectionV1Alpha, {
      async *serverReflectionInfo(requests) {
        for await (const request of requests) yield reflect(request);
      },
    }),
  ];
}

function definitionOf(service: DescService): ServiceDefinition {
  return Object.fromEntries(service.methods.map((method) => [method.localName, methodDefinition(service, method)]));
}

function implementationOf({ service, handlers }: GrpcService, scope: Scope): UntypedServiceImplementation {
  const implementation: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    const handler = handlers[method.localName];
    const handle = typeof handler === "function" ? (handler as AnyHandler) : unimplemented(service, method);
    implementation[method.localName] = adapt(method, handle, scope);
  }
  return implementation;
}

type AnyHandler = (input: unknown, call: GrpcCall) => unknown;

function unimplemented(service: DescService, method: DescMethod): AnyHandler {
  return () => {
    throw new MeshError("DM-7001", `${service.typeName}/${method.name} is not served here`);
  };
}

function adapt(method: DescMethod, handle: AnyHandler, scope: Scope): UntypedServiceImplementation[string] {
  const name = method.localName;
  switch (method.methodKind) {
    case "unary":
      return (call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>) =>
        void answerOnce(name, handle, call.request, { call, done, scope });
    case "client_streaming":
      return (call: ServerReadableStream<unknown, unknown>, done: sendUnaryData<unknown>) =>
        void answerOnce(name, handle, messagesOf(call), { call, done, scope });
    case "server_streaming":
      return (call: ServerWritableStream<unknown, unknown>) =>
        void answerMany(name, handle, call.request, { call, scope });
    case "bidi_streaming":
      return (call: ServerDuplexStream<unknown, unknown>) =>
        void answerMany(name, handle, messagesOf(call), { call, scope });
  }
}

async function answerOnce(
  name: string,
  handle: AnyHandler,
  input: unknown,
  rim: {
    call: ServerUnaryCall<unknown, unknown> | ServerReadableStream<unknown, unknown>;
    done: sendUnaryData<unknown>;
    scope: Scope;
  },
): Promise<void> {
  const { call, done, scope } = rim;
  const context = new CallContext(call, undefined);
  scope.unary.count += 1;
  try {
    const answer = await handle(input, context);
    context.sendHeaders();
    done(null, answer, context.trailers);
  } catch (thrown) {
    context.sendHeaders();
    done(refusal(name, thrown, scope.log, context));
  } finally {
    scope.unary.count -= 1;
    if (scope.unary.count === 0 && scope.stopping.aborted === false) {
      scope.unary.idle.resolve();
      scope.unary.idle = Promise.withResolvers();
    }
  }
}

async function answerMany(
  name: string,
  handle: AnyHandler,
  input: unknown,
  rim: {
    call: ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>;
    scope: Scope;
  },
): Promise<void> {
  const { call, scope } = rim;
  const context = new CallContext(call, scope.stopping);
  call.on("error", () => undefined);
  try {
    const answers = handle(input, context) as AsyncIterable<unknown>;
    for await (const answer of untilAborted(answers, context.signal)) {
      context.sendHeaders();
      if (call.write(answer) === false) await once(call, "drain", { signal: context.signal });
    }
    if (scope.stopping.aborted) throw new MeshError("DM-6007", "the service is stopping; call again");
    context.sendHeaders();
    call.end(context.trailers);
  } catch (thrown) {
    if (call.cancelled) return;
    const stopped = scope.stopping.aborted && !(thrown instanceof MeshError);
    const why = stopped ? new MeshError("DM-6007", "the service is stopping; call again") : thrown;
    call.emit("error", refusal(name, why, scope.log, context));
  }
}

/** The answers, until the signal aborts: then the generator is told to return and nothing more is read. */
async function* untilAborted<T>(answers: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = answers[Symbol.asyncIterator]();
  const aborted = Promise.withResolvers<"aborted">();
  const onAbort = (): void => aborted.resolve("aborted");
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    for (;;) {
      const next = iterator.next();
      next.catch(() => undefined);
      const step = await Promise.race([next, aborted.promise]);
      if (step === "aborted" || step.done === true) return;
      yield step.value;
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    void iterator.return?.().catch(() => undefined);
  }
}

/** The messages of a caller, as they are read; ends early when the call does. */
async function* messagesOf(call: ServerReadableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>) {
  yield* call.iterator({ destroyOnReturn: false });
}

function refusal(name: string, thrown: unknown, log: Logger, context: CallContext) {
  if (thrown instanceof Error && "grpcCode" in thrown) {
    return { code: Number(thrown.grpcCode), details: thrown.message, metadata: context.trailers };
  }
  const status = toStatusObject(thrown);
  if (status.code === GRPC.INTERNAL) log.error("rpc.call-failed", { method: name, error: thrown });
  status.metadata.merge(context.trailers);
  return status;
}

/** Built on each call: everything costly is made only when asked for. */
class CallContext implements GrpcCall {
  readonly #call: AnyServerCall;
  readonly #stopping: AbortSignal | undefined;
  #signal: AbortSignal | undefined;
  #headers: Metadata | undefined;
  #trailers: Metadata | undefined;
  #sent = false;

  constructor(call: AnyServerCall, stopping: AbortSignal | undefined) {
    this.#call = call;
    this.#stopping = stopping;
  }

  readonly metadata = {
    get: (name: string): string | undefined => this.#call.metadata.get(name)[0]?.toString(),
  };

  get deadlineMs(): number | undefined {
    const deadline = this.#call.getDeadline();
    const atMs = deadline instanceof Date ? deadline.getTime() : deadline;
    return Number.isFinite(atMs) ? atMs - systemClock.wallMs() : undefined;
  }

  get signal(): AbortSignal {
    if (this.#signal !== undefined) return this.#signal;
    const controller = new AbortController();
    const abort = (): void => {
      this.#stopping?.removeEventListener("abort", abort);
      controller.abort(new DOMException("the call was cancelled", "AbortError"));
    };
    const call: NodeJS.EventEmitter = this.#call;
    call.once("cancelled", abort);
    call.once("close", () => this.#stopping?.removeEventListener("abort", abort));
    this.#stopping?.addEventListener("abort", abort, { once: true });
    if (this.#call.cancelled || this.#stopping?.aborted === true) abort();
    this.#signal = controller.signal;
    return controller.signal;
  }

  get trailers(): Metadata {
    this.#trailers ??= new Metadata();
    return this.#trailers;
  }

  setHeader(name: string, value: string): void {
    this.#headers ??= new Metadata();
    this.#headers.set(name, value);
  }

  setTrailer(name: string, value: string): void {
    this.trailers.set(name, value);
  }

  sendHeaders(): void {
    if (this.#sent || this.#headers === undefined || this.#call.cancelled) return;
    this.#sent = true;
    this.#call.sendMetadata(this.#headers);
  }
}
