// Which web pages may call. C1 An origin is allowed only if it is listed exactly, or if it is the gateway itself on loopback.
// C2 A call with another origin is refused before anything reads it; programs send no origin and are not concerned.
import type { IncomingHttpHeaders } from "node:http2";

export type Cors =
  /** No web page. */
  | { kind: "none" }
  | { kind: "allowed"; headers: Record<string, string>; preflight: Record<string, string> }
  | { kind: "refused"; says: string };

const ASKED =
  "content-type, connect-protocol-version, connect-timeout-ms, connect-content-encoding, connect-accept-encoding, " +
  "x-grpc-web, x-user-agent, grpc-timeout, traceparent, driftmesh_inference_id";
const SHOWN =
  "grpc-status, grpc-message, grpc-status-details-bin, content-encoding, connect-content-encoding, driftmesh_inference_id";
const LOOPBACK = /^(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d+)?$/;

/** Judges requests by their `origin`, for the listed origins. */
export function corsOf(origins: readonly string[]): (headers: IncomingHttpHeaders) => Cors {
  const listed = new Set(origins);
  return (headers) => {
    const origin = headers["origin"];
    if (typeof origin !== "string") return { kind: "none" };
    const host = headers[":authority"] ?? headers.host ?? "";
    const own = LOOPBACK.test(host) && (origin === `http://${host}` || origin === `https://${host}`);
    if (!listed.has(origin) && !own)
      return { kind: "refused", says: `the origin ${origin} is not allowed: list it in DRIFTMESH_CORS_ORIGINS` };
    return {
      kind: "allowed",
      headers: { "access-control-allow-origin": origin, "access-control-expose-headers": SHOWN, vary: "origin" },
      preflight: {
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": ASKED,
        "access-control-max-age": "7200",
      },
    };
  };
}
