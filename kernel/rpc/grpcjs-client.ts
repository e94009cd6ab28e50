// gRPC clients on grpc-js for protobuf-es services: what sidecars, lifelines and health probes call with.
// J1 A unary call has a deadline (30 s unless told otherwise). J2 A stream ends when its signal aborts or its reader stops.
// J3 Errors come out as MeshError where the server sent one, else as grpc-js made them (`grpcCodeOf` tells the code).
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
import { once } from "node:events";
import { Client, credentials, Metadata, type CallOptions as JsOptions, type ClientDuplexStream } from "@grpc/grpc-js";
import type { ClientReadableStream, ServiceError } from "@grpc/grpc-js";
import { systemClock } from "../base/clock.ts";
import { parseAddress } from "./address.ts";
import { channelOptions, fromServiceError, methodDefinition } from "./grpcjs-wire.ts";

export type CallOptions = {
  /** Milliseconds from now; unary and client-streaming calls have 30,000 unless told otherwise, other streams none. */
  deadlineMs?: number;
  signal?: AbortSignal;
  headers?: Readonly<Record<string, string>>;
  /** Waits for a connection instead of failing at once while there is none. */
  waitForReady?: boolean;
  /** Told the response headers when they arrive. */
  onHeaders?: (get: (name: string) => string | undefined) => void;
};

type Calls<S extends DescService> = {
  [K in keyof S["method"]]: S["method"][K] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : S["method"][K] extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
      : S["method"][K] extends DescMethodClientStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageInitShape<I>>, options?: CallOptions) => Promise<MessageShape<O>>
        : S["method"][K] extends DescMethodBiDiStreaming<infer I, infer O>
          ? (requests: AsyncIterable<MessageInitShape<I>>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
          : never;
};
/** One function per method; disposing closes the channel. */
export type GrpcClient<S extends DescService> = Calls<S> & Disposable;

const UNARY_DEADLINE_MS = 30_000;

/** A client of `service` at "host:port" or "unix:/path". */
export function grpcClient<S extends DescService>(service: S, address: string): GrpcClient<S> {
  const target = parseAddress(address);
  const client = new Client(target.kind === "unix" ? `unix:${target.path}` : address, credentials.createInsecure(), {
    ...channelOptions(),
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.use_local_subchannel_pool": 1,
  });
  const calls: Record<string | symbol, unknown> = { [Symbol.dispose]: () => client.close() };
  for (const method of service.methods) calls[method.localName] = callOf(client, service, method);
  return calls as GrpcClient<S>;
}

type Definition = ReturnType<typeof methodDefinition>;

function callOf(client: Client, service: DescService, method: DescMethod) {
  const definition = methodDefinition(service, method);
  const { path, requestSerialize, responseDeserialize } = definition;
  switch (method.methodKind) {
    case "unary":
      return (request: unknown, options: CallOptions = {}) =>
        single(options, (metadata, js, done) =>
          client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, js, done),
        );
    case "client_streaming":
      return (requests: AsyncIterable<unknown>, options: CallOptions = {}) =>
        single(options, (metadata, js, done) => {
          const call = client.makeClientStreamRequest(path, requestSerialize, responseDeserialize, metadata, js, done);
          void pump(requests, call);
          return call;
        });
    case "server_streaming":
      return (request: unknown, options: CallOptions = {}) =>
        many(options, (metadata, js) =>
          client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, metadata, js),
        );
    case "bidi_streaming":
      return (requests: AsyncIterable<unknown>, options: CallOptions = {}) =>
        bidi(client, definition, requests, options);
  }
}

type Cancellable = {
  cancel(): void;
  on(event: "metadata", listener: (metadata: Metadata) => void): unknown;
  once(event: "status", listener: () => void): unknown;
};

async function single(
  options: CallOptions,
  start: (
    metadata: Metadata,
    js: JsOptions,
    done: (error: ServiceError | null, value?: unknown) => void,
  ) => Cancellable,
): Promise<unknown> {
  options.signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const call = start(metadataOf(options), jsOptions({ deadlineMs: UNARY_DEADLINE_MS, ...options }), (error, value) =>
    error === null ? resolve(value) : reject(fromServiceError(error)),
  );
  attach(call, options);
  try {
    return await promise;
  } catch (error) {
    if (options.signal?.aborted === true) throw abortReason(options.signal, error);
    throw error;
  }
}

async function* many(
  options: CallOptions,
  start: (metadata: Metadata, js: JsOptions) => ClientReadableStream<unknown> | ClientDuplexStream<unknown, unknown>,
): AsyncGenerator<unknown> {
  options.signal?.throwIfAborted();
  const call = start(metadataOf(options), jsOptions(options));
  attach(call, options);
  call.on("error", () => undefined);
  try {
    yield* call.iterator({ destroyOnReturn: false });
  } catch (error) {
    if (options.signal?.aborted === true) throw abortReason(options.signal, error);
    throw fromServiceError(error);
  } finally {
    call.cancel();
  }
}

function bidi(client: Client, definition: Definition, requests: AsyncIterable<unknown>, options: CallOptions) {
  const { path, requestSerialize, responseDeserialize } = definition;
  return many(options, (metadata, js) => {
    const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata, js);
    void pump(requests, call);
    return call;
  });
}

type Writable = Cancellable & NodeJS.EventEmitter & { write(value: unknown): boolean; end(): void };

/** Writes what `requests` yields, no faster than it is taken; stops when the call ends. */
async function pump(requests: AsyncIterable<unknown>, call: Writable): Promise<void> {
  const ended = new AbortController();
  call.once("status", () => ended.abort());
  const iterator = requests[Symbol.asyncIterator]();
  const stop = new Promise<undefined>((resolve) => {
    ended.signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
  try {
    for (;;) {
      const next = iterator.next();
      next.catch(() => undefined);
      const step = await Promise.race([next, stop]);
      if (step === undefined) break;
      if (step.done === true) return call.end();
      if (call.write(step.value) === false) await once(call, "drain", { signal: ended.signal });
    }
  } catch {
    call.cancel();
  } finally {
    void iterator.return?.().catch(() => undefined);
  }
}

function attach(call: Cancellable, options: CallOptions): void {
  const { signal, onHeaders } = options;
  if (onHeaders !== undefined)
    call.on("metadata", (metadata) => onHeaders((name) => metadata.get(name)[0]?.toString()));
  if (signal === undefined) return;
  const abort = (): void => call.cancel();
  signal.addEventListener("abort", abort, { once: true });
  call.once("status", () => signal.removeEventListener("abort", abort));
}

function metadataOf(options: CallOptions): Metadata {
  const metadata = new Metadata({ waitForReady: options.waitForReady ?? false });
  for (const [name, value] of Object.entries(options.headers ?? {})) metadata.set(name, value);
  return metadata;
}

function jsOptions(options: CallOptions): JsOptions {
  return options.deadlineMs === undefined ? {} : { deadline: systemClock.wallMs() + options.deadlineMs };
}

function abortReason(signal: AbortSignal, error: unknown): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new DOMException("aborted", { name: "AbortError", cause: error });
}
