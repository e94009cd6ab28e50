// The life of every service: settings, log, lifeline, compose, ready, wait, drain, dispose, exit.
// P1 What was opened is closed in reverse. P2 A second signal ends at once. P3 An uncaught error is logged and ends the process with 1.
// P4 A stop that hangs ends with 1. P5 When the agent dies the service serves on and drains after 60 s.
import { systemClock, type Clock } from "../base/clock.ts";
import { Cell } from "../base/queue.ts";
import { systemRand, type Rand } from "../base/rand.ts";
import { MeshError, messageOf } from "../fault/error.ts";
import { optionalText, readSettings, text, type Environment } from "./env.ts";
import { holdLifeline, type ChildState } from "./lifeline.ts";
import { createLogger, LOG_LEVELS, type Logger, type LogLevel } from "./log.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { startTracing } from "./trace.ts";

export type { Environment } from "./env.ts";

/** What a service is composed with. */
export type ServiceContext = {
  env: Environment;
  log: Logger;
  metrics: Metrics;
  clock: Clock;
  rand: Rand;
  /** Aborts when stop is asked, before draining begins. */
  signal: AbortSignal;
};

/** A composed service that answers at `address`. */
export type RunningService = {
  address: string;
  /** Highest row number given so far, for the agent's report (sidecars). */
  lastNumber?: () => number;
  /** Stops taking new work and finishes what is in flight, within `graceMs`. */
  drain?: (graceMs: number) => Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

const GRACE_MS = 10_000;
/** What disposing may take beyond the grace before the process ends the hard way. */
const STOP_MS = 5_000;
const REPORT_MS = 1_000;

/** Runs one service in this process until it is told to stop; does not return before the process ends. */
export async function runService(
  name: string,
  compose: (context: ServiceContext) => Promise<RunningService>,
): Promise<void> {
  const env: Environment = process.env;
  let log = createLogger(name);
  process.on("uncaughtException", (error) => {
    log.error("process.uncaught", { error });
    process.exit(1);
  });
  process.on("unhandledRejection", (error) => {
    log.error("process.unhandled-rejection", { error });
    process.exit(1);
  });
  try {
    const settings = readSettings<Settings>(env, SETTINGS);
    log = createLogger(name, settings.level as LogLevel);
    await live(name, compose, { env, log, settings });
    process.exit(0);
  } catch (error) {
    log.error("process.failed", { error, code: error instanceof MeshError ? error.fault : undefined });
    process.exit(1);
  }
}

type Settings = { level: string; child?: string | undefined; socket?: string | undefined; otlp?: string | undefined };
const SETTINGS = {
  level: text("DRIFTMESH_LOG_LEVEL", { default: "info", oneOf: LOG_LEVELS }),
  child: optionalText("DRIFTMESH_CHILD"),
  socket: optionalText("DRIFTMESH_AGENT_SOCKET"),
  otlp: optionalText("DRIFTMESH_OTLP_ENDPOINT"),
};

async function live(
  name: string,
  compose: (context: ServiceContext) => Promise<RunningService>,
  { env, log, settings }: { env: Environment; log: Logger; settings: Settings },
): Promise<void> {
  const stop = new AbortController();
  const asked = Promise.withResolvers<{ graceMs: number; why: string }>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    let seen = 0;
    process.on(signal, () => (++seen > 1 ? process.exit(1) : asked.resolve({ graceMs: GRACE_MS, why: signal })));
  }
  const state = new Cell<ChildState>({ state: "starting", address: "", reason: "", lastNumber: 0 });
  const tell = (news: Partial<ChildState>): void => state.set({ ...state.get().value, ...news });
  const lifeline = new AbortController();
  await using stack = new AsyncDisposableStack();
  stack.use(await startTracing(name, settings.otlp, log));
  stack.defer(() => lifeline.abort());
  if (settings.socket !== undefined && settings.child !== undefined) {
    const { child, socket } = settings;
    const onDrain = (graceMs: number): void => asked.resolve({ graceMs: graceMs || GRACE_MS, why: "agent" });
    const rim = { clock: systemClock, log, signal: lifeline.signal };
    void holdLifeline({ socket, child, pid: process.pid, state, onDrain, ...rim }).then((ended) => {
      if (ended === "orphaned") asked.resolve({ graceMs: GRACE_MS, why: "agent gone" });
    });
  }
  const metrics = createMetrics(name, { standard: true });
  const context = { env, log, metrics, clock: systemClock, rand: systemRand, signal: stop.signal };
  const composing = compose(context);
  const service = await Promise.race([composing, asked.promise.then(() => undefined)]).catch(async (error: unknown) => {
    tell({ reason: messageOf(error) });
    await systemClock.sleep(50);
    throw error;
  });
  if (service === undefined) {
    stop.abort();
    return log.info("process.stopped-while-starting");
  }
  stack.use(service);
  log.info("process.ready", { address: service.address });
  tell({ state: "ready", address: service.address });
  const reporting = report(service, tell, lifeline.signal);

  const { graceMs, why } = await asked.promise;
  log.info("process.stopping", { why, graceMs });
  tell({ state: "draining" });
  void systemClock.sleep(graceMs + STOP_MS).then(() => {
    log.error("process.stop-hung", { graceMs });
    process.exit(1);
  });
  stop.abort(new DOMException(`stopping: ${why}`, "AbortError"));
  await service.drain?.(graceMs);
  if (service.lastNumber !== undefined) {
    tell({ lastNumber: service.lastNumber() });
    await systemClock.sleep(20);
  }
  lifeline.abort();
  await reporting;
}

/** Tells the agent the last number when it has moved. */
async function report(
  { lastNumber }: RunningService,
  tell: (news: Partial<ChildState>) => void,
  signal: AbortSignal,
): Promise<void> {
  if (lastNumber === undefined) return;
  let told = 0;
  while (!signal.aborted) {
    const number = lastNumber();
    if (number !== told) tell({ lastNumber: number });
    told = number;
    await systemClock.sleep(REPORT_MS, signal).catch(() => undefined);
  }
}
