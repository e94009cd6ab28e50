// Metrics of the processes behind this port, for a scraper that reaches nothing else. A replica is named by its address (`get replicas`).
// N1 Only addresses that the routes name are asked: this is no open door. N2 A process that is away is 503 with a sentence.
import type { Clock } from "#kernel/base/clock.ts";
import { messageOf } from "#kernel/fault/error.ts";
import { respond, type HttpRequest, type HttpResponse } from "#kernel/rpc/listen.ts";

const ANSWER_MS = 2_000;
const PREFIX = "/metrics/";
const TEXT = { "content-type": "text/plain; charset=utf-8" };

export type MetricsDeps = {
  clock: Clock;
  control: string;
  drift: string;
  /** Addresses of replicas in routes. */
  replicas: () => Iterable<string>;
};

/** Answers `GET /metrics/control-plane`, `/metrics/drift` and `/metrics/<address of a replica>`; false when it is another path. */
export function takeMetrics(
  { clock, control, drift, replicas }: MetricsDeps,
  request: HttpRequest,
  response: HttpResponse,
): boolean {
  const path = request.url ?? "";
  if (request.method !== "GET" || !path.startsWith(PREFIX)) return false;
  const name = path.slice(PREFIX.length);
  const services = new Map([
    ["control-plane", control],
    ["drift", drift],
  ]);
  const known = [...services.keys(), ...replicas()];
  if (known.includes(name))
    void pass({ name, address: services.get(name) ?? name }, clock.deadline(ANSWER_MS), response);
  else
    respond(response, 404, TEXT, `metrics are served of ${known.join(", ")}; those of the gateway are at /metrics\n`);
  return true;
}

async function pass(
  { name, address }: { name: string; address: string },
  signal: AbortSignal,
  response: HttpResponse,
): Promise<void> {
  try {
    const answer = await fetch(`http://${address}/metrics`, { signal });
    respond(response, answer.status, { "content-type": answer.headers.get("content-type") ?? "" }, await answer.text());
  } catch (error) {
    respond(response, 503, TEXT, `${name} does not answer: ${messageOf(error)}\n`);
  }
}
