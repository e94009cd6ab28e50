// One record of a segment file, as bytes.
// R1 u32 length of the body · u32 CRC-32 of the body · body. Little endian. A body that is short or has another CRC is not a record.
// Body: u48 sequence · f64 time (Unix ms) · u16 subject length · u16 id length · u32 headers length · subject · id · headers (JSON) · payload.
import { crc32 } from "node:zlib";
import type { LogMessage } from "../ports.ts";

const RECORD_HEAD_BYTES = 8;
const BODY_HEAD_BYTES = 6 + 8 + 2 + 2 + 4;
/** Larger lengths are torn or foreign bytes, not records: payloads end at 1 MiB. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;

export type StoredRecord = { message: LogMessage; id: string };

export function encodeRecord(record: StoredRecord): Buffer {
  const { message, id } = record;
  const subject = Buffer.from(message.subject);
  const idBytes = Buffer.from(id);
  const names = Object.keys(message.headers);
  const headers = names.length === 0 ? Buffer.alloc(0) : Buffer.from(JSON.stringify(message.headers));
  const parts = [subject, idBytes, headers, message.payload];
  const bodyBytes = BODY_HEAD_BYTES + parts.reduce((sum, part) => sum + part.byteLength, 0);
  const out = Buffer.allocUnsafe(RECORD_HEAD_BYTES + bodyBytes);
  let at = RECORD_HEAD_BYTES;
  at = out.writeUIntLE(message.seq, at, 6);
  at = out.writeDoubleLE(message.timeMs, at);
  at = out.writeUInt16LE(subject.byteLength, at);
  at = out.writeUInt16LE(idBytes.byteLength, at);
  at = out.writeUInt32LE(headers.byteLength, at);
  for (const part of parts) {
    out.set(part, at);
    at += part.byteLength;
  }
  out.writeUInt32LE(bodyBytes, 0);
  out.writeUInt32LE(crc32(out.subarray(RECORD_HEAD_BYTES)), 4);
  return out;
}

/** The record at `at`, `more` when the buffer ends before it does, `bad` when these bytes are no record. */
export function decodeRecord(buffer: Buffer, at: number): { record: StoredRecord; next: number } | "more" | "bad" {
  if (buffer.byteLength - at < RECORD_HEAD_BYTES) return "more";
  const bodyBytes = buffer.readUInt32LE(at);
  if (bodyBytes < BODY_HEAD_BYTES || bodyBytes > MAX_BODY_BYTES) return "bad";
  const start = at + RECORD_HEAD_BYTES;
  const end = start + bodyBytes;
  if (end > buffer.byteLength) return "more";
  const body = buffer.subarray(start, end);
  if (crc32(body) !== buffer.readUInt32LE(at + 4)) return "bad";
  return { record: decodeBody(body), next: end };
}

function decodeBody(body: Buffer): StoredRecord {
  const subjectBytes = body.readUInt16LE(14);
  const idBytes = body.readUInt16LE(16);
  const headerBytes = body.readUInt32LE(18);
  let at = BODY_HEAD_BYTES;
  const take = (bytes: number): Buffer => body.subarray(at, (at += bytes));
  const subject = take(subjectBytes).toString();
  const id = take(idBytes).toString();
  const headers = headerBytes === 0 ? {} : parseHeaders(take(headerBytes).toString());
  // A copy, so that a message kept for long does not keep the whole read buffer.
  const payload = Uint8Array.from(body.subarray(at));
  return { message: { seq: body.readUIntLE(0, 6), subject, payload, headers, timeMs: body.readDoubleLE(6) }, id };
}

function parseHeaders(json: string): Record<string, string> {
  const out: Record<string, string> = {};
  const parsed: unknown = JSON.parse(json);
  for (const [name, value] of Object.entries(typeof parsed === "object" && parsed !== null ? parsed : {})) {
    if (typeof value === "string") out[name] = value;
  }
  return out;
}
