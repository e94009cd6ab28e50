// Finds the model's name in the first gRPC frame without decoding the message: field 1 of ModelInfer, ModelReady and ModelMetadata requests.
// P1 Nothing is copied but the name. P2 `more` says how many bytes are needed before looking again makes sense.

export type Peek =
  | { kind: "name"; name: string }
  /** Look again when this many bytes of the request are there. */
  | { kind: "more"; bytes: number }
  /** The message is compressed: its end is at `bytes`. */
  | { kind: "compressed"; bytes: number }
  | { kind: "too-large"; bytes: number }
  | { kind: "malformed"; why: string };

const FRAME_HEAD_BYTES = 5;
const NAME_FIELD = 1;

/** Looks into `request`, the bytes of a gRPC request body so far. */
export function peekName(request: Uint8Array, maxMessageBytes: number): Peek {
  if (request.length < FRAME_HEAD_BYTES) return { kind: "more", bytes: FRAME_HEAD_BYTES };
  const view = new DataView(request.buffer, request.byteOffset, request.byteLength);
  const messageBytes = view.getUint32(1);
  if (messageBytes > maxMessageBytes) return { kind: "too-large", bytes: messageBytes };
  const end = FRAME_HEAD_BYTES + messageBytes;
  const flags = view.getUint8(0);
  if (flags > 1) return { kind: "malformed", why: `the frame has the flags ${flags}` };
  if (flags === 1) return { kind: "compressed", bytes: end };
  return nameIn(request, FRAME_HEAD_BYTES, end);
}

/** Walks the fields of a message that lies at [start, end) of `bytes`, of which only a part may be there. */
export function nameIn(bytes: Uint8Array, start: number, end: number): Peek {
  const walk = { at: start };
  while (walk.at < end) {
    const tag = varint(bytes, walk, end);
    if (typeof tag !== "number") return tag;
    const wire = tag & 7;
    const length = wire === 2 ? varint(bytes, walk, end) : wire === 5 ? 4 : wire === 1 ? 8 : 0;
    if (typeof length !== "number") return length;
    if (wire === 0) {
      const value = varint(bytes, walk, end);
      if (typeof value !== "number") return value;
    } else if (wire !== 1 && wire !== 2 && wire !== 5) return { kind: "malformed", why: `wire type ${wire}` };
    const next = walk.at + length;
    if (next > end) return { kind: "malformed", why: "a field is longer than the message" };
    if (tag >>> 3 === NAME_FIELD && wire === 2) {
      if (next > bytes.length) return { kind: "more", bytes: next };
      return { kind: "name", name: textOf(bytes, walk.at, next) };
    }
    walk.at = next;
  }
  return { kind: "name", name: "" };
}

function textOf(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("utf8");
}

/** A varint below 2^53 (larger ones lose their low bits: only its length matters then). */
function varint(bytes: Uint8Array, walk: { at: number }, end: number): number | Peek {
  let value = 0;
  let scale = 1;
  for (let i = 0; i < 10; i++) {
    if (walk.at >= end) return { kind: "malformed", why: "the message ends inside a number" };
    const byte = bytes[walk.at];
    if (byte === undefined) return { kind: "more", bytes: walk.at + 1 };
    walk.at += 1;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value;
    scale *= 128;
  }
  return { kind: "malformed", why: "a number has more than ten bytes" };
}
