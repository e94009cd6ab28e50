// The child's side of the lifeline to the agent: says who it is and how it does, hears when to drain.
// L1 A broken lifeline is tried again; after 60 s without an agent the answer is "orphaned".
// L2 The newest state is sent; states in between may be skipped. L3 It is held through draining, so that the last number arrives.
import { Agent } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import type { Clock } from "../base/clock.ts";
import { Cell } from "../base/queue.ts";
import { grpcClient } from "../rpc/grpcjs.ts";
import type { Logger } from "./log.ts";

export type ChildState = {
  state: "starting" | "ready" | "draining";
  address: string;
  reason: string;
  lastNumber: number;
};

const ORPHAN_MS = 60_000;
const RETRY_MS = 500;
/** A call that lived this long had an agent at its other end. */
const HELD_MS = 1_000;

/** Holds the lifeline until the agent has been gone for 60 s ("orphaned") or `signal` aborts. */
export async function holdLifeline(options: {
  /** Path of the agent's socket. */
  socket: string;
  child: string;
  pid: number;
  state: Cell<ChildState>;
  /** The agent said: leave, finish, stop. */
  onDrain: (graceMs: number) => void;
  clock: Clock;
  log: Logger;
  signal: AbortSignal;
}): Promise<"orphaned" | "aborted"> {
  const { child, clock, log, onDrain, pid, signal, socket, state } = options;
  using agent = grpcClient(Agent, socket.startsWith("unix:") ? socket : `unix:${socket}`);
  let aloneSinceMs = clock.monotonicMs();
  for (let attempt = 0; !signal.aborted; attempt++) {
    const startMs = clock.monotonicMs();
    const call = new AbortController();
    const stop = (): void => call.abort(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    try {
      const reports = reportsOf(state, { child, pid }, call.signal);
      for await (const { drain, graceMs } of agent.hold(reports, { signal: call.signal })) {
        if (drain) onDrain(graceMs);
      }
    } catch (error) {
      if (attempt === 0 && !signal.aborted) log.warn("lifeline.broken", { error });
    } finally {
      signal.removeEventListener("abort", stop);
      call.abort();
    }
    const nowMs = clock.monotonicMs();
    if (nowMs - startMs >= HELD_MS) {
      aloneSinceMs = nowMs;
      attempt = 0;
    }
    if (nowMs - aloneSinceMs >= ORPHAN_MS) return "orphaned";
    await clock.sleep(RETRY_MS, signal).catch(() => undefined);
  }
  return "aborted";
}

async function* reportsOf(state: Cell<ChildState>, who: { child: string; pid: number }, signal: AbortSignal) {
  while (!signal.aborted) {
    const { value, version } = state.get();
    yield { ...who, ...value, lastNumber: BigInt(value.lastNumber) };
    await state.changed(version, signal);
  }
}
