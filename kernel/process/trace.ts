// Tracing: off until an OTLP endpoint is set, then OpenTelemetry, loaded only then.
// R1 While off, a span is one shared object and costs nothing. R2 Names of spans are fixed; attributes carry no values of inferences.
// R3 One trace goes from a client through gateway and sidecar, and from its labels through the gateway, the join, an episode, to the run.
import type { Logger } from "./log.ts";

/** One span of a trace. */
export type Span = {
  /** W3C trace context to send on; undefined while tracing is off (send on what came in). */
  readonly traceparent: string | undefined;
  set(attribute: string, value: string | number): void;
  /** Marks the span failed; the sentence must not hold values of an inference. */
  fail(sentence: string): void;
  end(): void;
};

const OFF: Span = { traceparent: undefined, set() {}, fail() {}, end() {} };
let start: ((name: string, parent: string | undefined) => Span) | undefined;

/** Starts a span under `parentTraceparent` (the header `traceparent`), or a new trace. */
export function startSpan(name: string, parentTraceparent?: string): Span {
  return start === undefined ? OFF : start(name, parentTraceparent);
}

/** Turns tracing on when `endpoint` (of an OTLP collector, "http://host:4317") is given; dispose flushes what is left. */
export async function startTracing(
  service: string,
  endpoint: string | undefined,
  log: Logger,
): Promise<AsyncDisposable> {
  if (endpoint === undefined) return { [Symbol.asyncDispose]: () => Promise.resolve() };
  const [api, sdk, otlp] = await Promise.all([
    import("@opentelemetry/api"),
    import("@opentelemetry/sdk-trace"),
    import("@opentelemetry/exporter-trace-otlp-grpc"),
  ]);
  const { TracerProvider, BatchSpanProcessor } = sdk;
  const named = { "service.namespace": "driftmesh", "service.name": service };
  const resource = { attributes: named, merge: () => resource, getRawAttributes: () => Object.entries(named) };
  const provider = new TracerProvider({
    resource,
    spanProcessors: [new BatchSpanProcessor({ exporter: new otlp.OTLPTraceExporter({ url: endpoint }) })],
  });
  const tracer = provider.getTracer("driftmesh");
  start = (name, parent) => {
    const remote = parent === undefined ? undefined : readTraceparent(parent);
    const context =
      remote === undefined
        ? api.ROOT_CONTEXT
        : api.trace.setSpanContext(api.ROOT_CONTEXT, { ...remote, isRemote: true });
    const span = tracer.startSpan(name, {}, context);
    const { traceId, spanId, traceFlags } = span.spanContext();
    return {
      traceparent: `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`,
      set: (attribute, value) => void span.setAttribute(attribute, value),
      fail: (sentence) => void span.setStatus({ code: api.SpanStatusCode.ERROR, message: sentence }),
      end: () => span.end(),
    };
  };
  log.info("trace.started", { endpoint });
  return {
    [Symbol.asyncDispose]: async () => {
      start = undefined;
      await provider.shutdown();
    },
  };
}

/** Reads `00-<trace>-<span>-<flags>`; undefined when it is not one. */
export function readTraceparent(header: string): { traceId: string; spanId: string; traceFlags: number } | undefined {
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(header);
  const [, traceId, spanId, flags] = match ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) };
}
