// `GET /metrics` of a process, in Prometheus' text form.
import { createServer, type Server } from "node:http";
import type { Metrics } from "../process/metrics.ts";
import { type HttpResponse, respond } from "./listen.ts";

const TEXT = "text/plain; version=0.0.4; charset=utf-8";

/** Answers with everything that was counted. */
export async function answerMetrics(metrics: Metrics, response: HttpResponse): Promise<void> {
  respond(response, 200, { "content-type": TEXT }, await metrics.text());
}

/** Serves nothing but `GET /metrics`, one request a connection: a scrape never holds up a drain. Feed it connections. */
export function metricsServer(metrics: Metrics): Server {
  const server = createServer((request, response) => {
    response.setHeader("connection", "close");
    if (request.method === "GET" && request.url === "/metrics") return void answerMetrics(metrics, response);
    respond(
      response,
      404,
      { "content-type": "text/plain; charset=utf-8" },
      "over HTTP/1.1 only /metrics is served here\n",
    );
  });
  server.on("clientError", (_error, socket) => socket.destroy());
  return server;
}
