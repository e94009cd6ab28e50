// One unary call to a replica from a message that is already encoded: for callers that speak Connect or gRPC-Web.
// N1 The same choice of replica, the same single repetition after a refusal as the byte path.
import * as http2 from "node:http2";
import { MeshError } from "#kernel/fault/error.ts";
import { GRPC } from "#kernel/fault/table.ts";
import { ConnectError } from "#kernel/rpc/connect.ts";
import { meshErrorFrom, readStatusBytes } from "#kernel/rpc/faults.ts";
import { pickOf } from "../route/door.ts";
import type { InferenceDeps } from "./infer.ts";
import { framed } from "./reply.ts";
import type { Upstream } from "./upstreams.ts";

export type UnaryCall = {
  path: string;
  model: string;
  message: Uint8Array;
  timeoutMs: number;
  headers: Readonly<Record<string, string>>;
  signal: AbortSignal;
};
type Answer = { message: Uint8Array; headers: http2.IncomingHttpHeaders };
type Deps = Pick<InferenceDeps, "routes" | "upstreams" | "clock" | "rand">;

/** Sends the message to a replica of `model`; throws what the gateway or the replica refused. */
export async function callReplica(call: UnaryCall, deps: Deps): Promise<Answer> {
  const { clock, rand, upstreams } = deps;
  const table = deps.routes();
  if (table === undefined) throw new MeshError("DM-3003", "the gateway has not heard from the control plane yet");
  const decision = table.decide(call.model, clock.wallMs(), rand);
  if (decision.kind === "refused") throw decision.error;
  let candidates = decision.endpoints.map((address) => upstreams.at(address));
  for (let attempt = 0; attempt < 2; attempt++) {
    const upstream = candidates[pickOf(candidates, clock.monotonicMs(), rand) ?? 0];
    if (upstream === undefined) break;
    const outcome = await send(call, upstream, deps);
    if (outcome !== "refused") return outcome;
    const others = candidates.filter((one) => one !== upstream);
    if (others.length > 0) candidates = others;
  }
  throw new MeshError("DM-3003", `no replica of "${decision.model}" takes calls at the moment`);
}

async function send(call: UnaryCall, upstream: Upstream, { upstreams }: Deps): Promise<Answer | "refused"> {
  let stream: http2.ClientHttp2Stream;
  try {
    const session = upstreams.ready(upstream) ?? (await upstreams.connect(upstream));
    stream = session.request({
      ...call.headers,
      ":method": "POST",
      ":path": call.path,
      ":scheme": "http",
      ":authority": upstream.address,
      "content-type": "application/grpc",
      "grpc-timeout": `${Math.min(99_999_999, Math.max(1, Math.ceil(call.timeoutMs)))}m`,
      te: "trailers",
    });
  } catch {
    return "refused";
  }
  upstream.inFlight += 1;
  const cancel = (): void => stream.close(http2.constants.NGHTTP2_CANCEL);
  call.signal.addEventListener("abort", cancel, { once: true });
  try {
    return await answerOf(stream, framed(0, call.message));
  } finally {
    call.signal.removeEventListener("abort", cancel);
    upstream.inFlight -= 1;
  }
}

function answerOf(stream: http2.ClientHttp2Stream, request: Uint8Array): Promise<Answer | "refused"> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer | "refused">();
  const chunks: Buffer[] = [];
  let headers: http2.IncomingHttpHeaders | undefined;
  let trailers: http2.IncomingHttpHeaders = {};
  stream.on("response", (sent) => (headers = sent));
  stream.on("trailers", (sent) => (trailers = sent));
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.on("error", () => undefined);
  stream.on("close", () => {
    const status = trailers["grpc-status"] ?? headers?.["grpc-status"];
    if (headers !== undefined && status === "0")
      return resolve({ message: Buffer.concat(chunks).subarray(5), headers });
    if (status !== undefined) return reject(errorOf(Number(status), { ...headers, ...trailers }));
    if (stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM) return resolve("refused");
    return reject(new MeshError("DM-3003", "the replica went away during the call"));
  });
  stream.end(request);
  return promise;
}

function errorOf(code: number, headers: http2.IncomingHttpHeaders): Error {
  const sent = headers["grpc-status-details-bin"];
  const status = typeof sent === "string" ? readStatusBytes(Buffer.from(sent, "base64")) : undefined;
  const message = status?.message ?? decoded(headers["grpc-message"]);
  const known = code >= GRPC.CANCELLED && code <= GRPC.UNAUTHENTICATED ? code : GRPC.UNKNOWN;
  return meshErrorFrom(message, status?.details ?? [], undefined) ?? new ConnectError(message, known);
}

function decoded(message: string | string[] | undefined): string {
  try {
    return decodeURIComponent(String(message ?? ""));
  } catch {
    return String(message);
  }
}
