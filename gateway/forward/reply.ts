// Refusals in the caller's protocol: gRPC (trailers only), gRPC-Web, Connect unary and Connect streaming, each with the same details.
import type { Http2Stream, IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { GRPC } from "#kernel/fault/table.ts";
import type { MeshError } from "#kernel/fault/error.ts";
import { statusBytes, statusOf, type Status } from "#kernel/rpc/faults.ts";

/** The protocol and content type a caller speaks. */
export type Caller = { protocol: "grpc" | "grpc-web" | "connect" | "connect-stream"; contentType: string };
export type Refusal = { httpStatus: number; headers: Record<string, string>; body: Uint8Array; status: Status };

/** Names and HTTP statuses of Connect, by gRPC code. */
const CONNECT: Readonly<Record<number, readonly [string, number]>> = {
  [GRPC.CANCELLED]: ["canceled", 499],
  [GRPC.UNKNOWN]: ["unknown", 500],
  [GRPC.INVALID_ARGUMENT]: ["invalid_argument", 400],
  [GRPC.DEADLINE_EXCEEDED]: ["deadline_exceeded", 504],
  [GRPC.NOT_FOUND]: ["not_found", 404],
  [GRPC.ALREADY_EXISTS]: ["already_exists", 409],
  [GRPC.PERMISSION_DENIED]: ["permission_denied", 403],
  [GRPC.RESOURCE_EXHAUSTED]: ["resource_exhausted", 429],
  [GRPC.FAILED_PRECONDITION]: ["failed_precondition", 400],
  [GRPC.ABORTED]: ["aborted", 409],
  [GRPC.OUT_OF_RANGE]: ["out_of_range", 400],
  [GRPC.UNIMPLEMENTED]: ["unimplemented", 501],
  [GRPC.INTERNAL]: ["internal", 500],
  [GRPC.UNAVAILABLE]: ["unavailable", 503],
  [GRPC.DATA_LOSS]: ["data_loss", 500],
  [GRPC.UNAUTHENTICATED]: ["unauthenticated", 401],
};

/** What the caller speaks, by its content type; a request without one is taken as Connect. */
export function callerOf(headers: IncomingHttpHeaders): Caller {
  const contentType = headers["content-type"] ?? "";
  if (contentType.startsWith("application/grpc-web")) return { protocol: "grpc-web", contentType };
  if (contentType.startsWith("application/grpc")) return { protocol: "grpc", contentType };
  if (contentType.startsWith("application/connect+")) return { protocol: "connect-stream", contentType };
  return { protocol: "connect", contentType };
}

/** The answer that says `error` to this caller. */
export function refusalOf(error: MeshError, caller: Caller): Refusal {
  const status = statusOf(error);
  switch (caller.protocol) {
    case "grpc":
    case "grpc-web":
      return {
        httpStatus: 200,
        headers: { "content-type": caller.contentType, ...grpcHeaders(status) },
        body: new Uint8Array(0),
        status,
      };
    case "connect":
      return {
        httpStatus: CONNECT[status.code]?.[1] ?? 500,
        headers: { "content-type": "application/json" },
        body: Buffer.from(JSON.stringify(connectError(status))),
        status,
      };
    case "connect-stream":
      return {
        httpStatus: 200,
        headers: { "content-type": caller.contentType },
        body: framed(2, Buffer.from(JSON.stringify({ error: connectError(status) }))),
        status,
      };
  }
}

/** `grpc-status` and its companions. */
export function grpcHeaders(status: Status): Record<string, string> {
  return {
    "grpc-status": String(status.code),
    "grpc-message": percentEncoded(status.message),
    "grpc-status-details-bin": base64(statusBytes(status)),
  };
}

/** One length-prefixed message. */
export function framed(flags: number, message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(5 + message.length);
  frame[0] = flags;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/** Sends a refusal on a stream that has no headers yet; what the caller still sends is not read. */
export function sendRefusal(stream: ServerHttp2Stream, refusal: Refusal, extra: OutgoingHttpHeaders): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return;
  const headers = { ":status": refusal.httpStatus, ...refusal.headers, ...extra };
  if (refusal.body.length === 0) stream.respond(headers, { endStream: true });
  else {
    stream.respond(headers);
    stream.end(refusal.body);
  }
  dropRest(stream);
}

/** Reads away what is left of a request that was answered early: small rests quietly, a large one is cut. */
function dropRest(stream: ServerHttp2Stream): void {
  let bytes = 0;
  stream.removeAllListeners("data");
  stream.on("data", (chunk: Uint8Array) => {
    bytes += chunk.length;
    if (bytes > 1 << 20) (stream as Http2Stream).close(0);
  });
  stream.resume();
}

function connectError(status: Status): { code: string; message: string; details: { type: string; value: string }[] } {
  return {
    code: CONNECT[status.code]?.[0] ?? "unknown",
    message: status.message,
    details: status.details.map(({ desc, value }) => ({
      type: desc.typeName,
      value: base64(toBinary(desc, create(desc, value))),
    })),
  };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64").replaceAll("=", "");
}

/** gRPC's encoding of messages: printable ASCII as it is, the rest of its UTF-8 as %XX. */
function percentEncoded(text: string): string {
  let out = "";
  for (const byte of Buffer.from(text, "utf8")) {
    const plain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    out += plain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return out;
}
