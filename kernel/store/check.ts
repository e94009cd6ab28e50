// What every store refuses before it does anything, so that memory, file and NATS refuse the same things.
import { MeshError } from "../fault/error.ts";
import type { FaultCode } from "../fault/table.ts";
import type { Guard, Write } from "./ports.ts";

/** Largest value of a key (bytes); larger ones go to Blobs. */
export const MAX_VALUE_BYTES = 64 * 1024;
/** Most writes of one batch. A guarded batch has one fewer: its guard may need a message of its own. */
const MAX_BATCH = 1000;
/** Largest payload of a log message: NATS's default of 1 MiB less room for headers. */
const MAX_PAYLOAD_BYTES = 1024 * 1024 - 8 * 1024;

const KEY = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
const KEY_PREFIX = /^([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]*$/;
const SHA256 = /^[0-9a-f]{64}$/;
/** Keys that begin like this belong to the store itself. */
export const RESERVED_KEY = "_store";

export function checkKey(key: string): void {
  if (!KEY.test(key) || key.length > 256)
    throw refused(`key ${JSON.stringify(key)} is not dot-separated [A-Za-z0-9_-]+`);
  if (key.startsWith(RESERVED_KEY)) throw refused(`key ${key} is the store's own`);
}

export function checkPrefix(prefix: string): void {
  if (!KEY_PREFIX.test(prefix) || prefix.length > 256)
    throw refused(`prefix ${JSON.stringify(prefix)} is not the head of a key`);
}

export function checkBatch(writes: readonly Write[], guard: Guard | undefined): void {
  const most = guard === undefined ? MAX_BATCH : MAX_BATCH - 1;
  if (writes.length === 0 || writes.length > most)
    throw refused(`a batch of ${writes.length} writes is not between 1 and ${most}`);
  const keys = new Set<string>();
  for (const write of writes) {
    checkKey(write.key);
    if (keys.has(write.key)) throw refused(`key ${write.key} is written twice in one batch`);
    keys.add(write.key);
    if (write.kind !== "delete" && write.value.byteLength > MAX_VALUE_BYTES) {
      throw refused(
        `value of ${write.key} has ${write.value.byteLength} bytes, more than ${MAX_VALUE_BYTES}`,
        "DM-3008",
      );
    }
  }
  if (guard === undefined) return;
  checkKey(guard.key);
  if (keys.has(guard.key)) throw refused(`key ${guard.key} guards a batch that writes it`);
}

export function checkSha256(sha256: string): void {
  if (!SHA256.test(sha256)) throw refused(`${JSON.stringify(sha256)} is not a lower-case hex SHA-256`);
}

export function checkPayload(subject: string, payload: Uint8Array): void {
  if (payload.byteLength <= MAX_PAYLOAD_BYTES) return;
  throw refused(`message on ${subject} has ${payload.byteLength} bytes, more than ${MAX_PAYLOAD_BYTES}`, "DM-3008");
}

/** A refusal of something our own code asked for; it names what is wrong. */
export function refused(message: string, code: FaultCode = "DM-6008"): MeshError {
  return new MeshError(code, message);
}
