// Builds the gateway: routes, forwarding, its own answers, one port.
import { Cell } from "#kernel/base/queue.ts";
import { messageOf } from "#kernel/fault/error.ts";
import { list, optionalText, readSettings, text } from "#kernel/process/env.ts";
import type { RunningService, ServiceContext } from "#kernel/process/run.ts";
import { serveConnect } from "#kernel/rpc/connect.ts";
import { respond, type HttpRequest, type HttpResponse } from "#kernel/rpc/listen.ts";
import { openNats, type NatsCredentials, type NatsStores } from "#kernel/store/nats/door.ts";
import type { EventLog } from "#kernel/store/ports.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Discovery } from "#proto/driftmesh/v1/discovery_pb.ts";
import { Drift } from "#proto/driftmesh/v1/drift_pb.ts";
import { Feedback } from "#proto/driftmesh/v1/feedback_pb.ts";
import { Mesh } from "#proto/driftmesh/v1/mesh_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { Retraining } from "#proto/driftmesh/v1/retraining_pb.ts";
import { Rollouts } from "#proto/driftmesh/v1/rollouts_pb.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";
import { corsOf, encodedAnswers, feedbackRoutes, inferenceRoutes, ownAnswers, page, takeMetrics } from "./api/door.ts";
import { callReplica, Deadlines, InferenceForwarder, Proxy, Upstreams } from "./forward/door.ts";
import { followRoutes, type RouteTable } from "./route/door.ts";

const SETTINGS = {
  listen: text("DRIFTMESH_LISTEN", { default: "127.0.0.1:4747" }),
  control: text("DRIFTMESH_CONTROL"),
  drift: text("DRIFTMESH_DRIFT"),
  nats: text("DRIFTMESH_NATS_URL"),
  credentials: optionalText("DRIFTMESH_NATS_CREDENTIALS"),
  origins: list("DRIFTMESH_CORS_ORIGINS"),
};
type Settings = {
  [K in keyof typeof SETTINGS]: K extends "origins"
    ? readonly string[]
    : K extends "credentials"
      ? string | undefined
      : string;
};

/** The gateway out of its environment. */
export async function compose(context: ServiceContext): Promise<RunningService> {
  const settings = readSettings<Settings>(context.env, SETTINGS);
  await using building = new AsyncDisposableStack();
  const store = openFeedbackLog(settings, context);
  building.defer(() => store.close());
  const gateway = await serveGateway({ ...settings, feedbackLog: store.log }, context);
  building.use(gateway);
  const opened = building.move();
  return { ...gateway, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

export type GatewayOptions = {
  listen: string;
  control: string;
  drift: string;
  origins: readonly string[];
  /** MESH_FB; undefined while the store is away. */
  feedbackLog: () => EventLog | undefined;
};

/** Serves the edge; what it needs from the store is given. */
export async function serveGateway(
  options: GatewayOptions,
  { clock, log, metrics, rand }: Pick<ServiceContext, "clock" | "log" | "metrics" | "rand">,
): Promise<Required<Pick<RunningService, "address" | "drain">> & AsyncDisposable> {
  const running = new AbortController();
  const routes = new Cell<RouteTable | undefined>(undefined);
  const upstreams = new Upstreams(clock, log);
  const deadlines = new Deadlines(clock);
  const control = { address: options.control, what: "the control plane" };
  const proxied = [Registry, Discovery, Deployments, Retraining, Rollouts, Mesh].map((service) => ({
    service,
    target: control,
  }));
  const proxy = new Proxy(
    [...proxied, { service: Drift, target: { address: options.drift, what: "the drift service" } }],
    { upstreams, deadlines, log, metrics },
  );
  const own = ownAnswers(() => routes.get().value !== undefined);
  const forwarding = { routes: () => routes.get().value, upstreams, clock, rand };
  const infer = new InferenceForwarder({
    ...forwarding,
    deadlines,
    log,
    metrics,
    answers: encodedAnswers(own),
  });
  const cors = corsOf(options.origins);
  const replicas = (): Iterable<string> => routes.get().value?.endpoints ?? [];
  const measured = { clock, control: options.control, drift: options.drift, replicas };
  const alsoServes = [Drift, ...proxied.map(({ service }) => service)].map((s) => s.typeName);

  function http(request: HttpRequest, response: HttpResponse): boolean {
    const verdict = cors(request.headers);
    if (verdict.kind === "refused") {
      respond(response, 403, { "content-type": "text/plain; charset=utf-8" }, `${verdict.says}\n`);
      return true;
    }
    if (verdict.kind === "allowed") {
      for (const [name, value] of Object.entries(verdict.headers)) response.setHeader(name, value);
      if (request.method === "OPTIONS") {
        respond(response, 204, verdict.preflight);
        return true;
      }
    }
    if (request.method === "GET" && request.url === "/") {
      const services = [...alsoServes, Feedback.typeName, GRPCInferenceService.typeName].toSorted();
      respond(response, 200, { "content-type": "text/plain; charset=utf-8" }, page(server.address, services));
      return true;
    }
    if (takeMetrics(measured, request, response)) return true;
    return "stream" in request ? false : proxy.takeHttp1(request, response as Parameters<Proxy["takeHttp1"]>[1]);
  }

  const server = await serveConnect({
    listen: options.listen,
    log,
    metrics,
    alsoServes,
    http,
    onStream(stream, headers) {
      const verdict = cors(headers);
      if (verdict.kind === "refused" || headers[":method"] === "OPTIONS") return false;
      return (
        infer.take(stream, headers) || proxy.take(stream, headers, verdict.kind === "allowed" ? verdict.headers : {})
      );
    },
    routes(router) {
      feedbackRoutes(router, { log: options.feedbackLog, rules: forwarding.routes, clock, metrics });
      inferenceRoutes(router, { callReplica: (call) => callReplica(call, forwarding), own });
    },
  });
  const { signal } = running;
  const loops = [
    followRoutes({ control: options.control, gateway: server.address, routes, clock, rand, log, signal }),
    forgetUnused(routes, upstreams, [options.control, options.drift], signal),
    upstreams.run(signal),
    deadlines.run(signal),
  ];
  return {
    address: server.address,
    async drain(graceMs) {
      proxy.stopStreams();
      await server.drain(graceMs);
    },
    async [Symbol.asyncDispose]() {
      proxy.stopStreams();
      await server[Symbol.asyncDispose]();
      running.abort();
      upstreams[Symbol.dispose]();
      await Promise.all(loops);
    },
  };
}

/** Closes the sessions to addresses that no route names any more. */
async function forgetUnused(
  routes: Cell<RouteTable | undefined>,
  upstreams: Upstreams,
  always: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const { value, version } = routes.get();
    if (value !== undefined) upstreams.keepOnly(new Set([...always, ...value.endpoints]));
    await routes.changed(version, signal);
  }
}

/** Opens MESH_FB in the background: the gateway serves inferences while the store is away. */
function openFeedbackLog(
  settings: Settings,
  { clock, log, rand }: ServiceContext,
): { log: () => EventLog | undefined; close(): Promise<void> } {
  const closing = new AbortController();
  const link = { url: settings.nats, name: "gateway", bootstrap: false, connectMs: 5_000, clock, rand };
  const credentials = settings.credentials === undefined ? {} : { credentials: credentialsOf(settings.credentials) };
  let stores: NatsStores | undefined;
  let feedback: EventLog | undefined;
  async function open(): Promise<void> {
    for (let attempt = 0; !closing.signal.aborted; attempt++) {
      try {
        stores = await openNats({ ...link, ...credentials });
        feedback = stores.log("MESH_FB");
        break;
      } catch (error) {
        if (attempt === 0) log.warn("gateway.store-away", { why: messageOf(error) });
        await clock.sleep(1_000, closing.signal).catch(() => undefined);
      }
    }
    // Connected too late to be of use.
    if (closing.signal.aborted) await stores?.[Symbol.asyncDispose]();
  }
  void open();
  return {
    log: () => feedback,
    async close() {
      closing.abort();
      await stores?.[Symbol.asyncDispose]();
    },
  };
}

function credentialsOf(json: string): NatsCredentials {
  return JSON.parse(json) as NatsCredentials;
}
