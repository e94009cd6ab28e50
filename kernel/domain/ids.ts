// Identifiers: how they are derived, packed and verified.
// I1 An id derived from a request is its idempotency: the same (principal, method, request id) gives the same id.
// I2 inf_ ids pack format(1) track(3) boot(4) number(5) mac(3) big endian: 16 bytes, 26 base32 characters.
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { base32, fromBase32 } from "../base/bytes.ts";
import type { Rand } from "../base/rand.ts";

export type IdKind = "dep" | "run" | "rol" | "epi" | "ord";

/** `kind_` + base32 of the first 10 bytes of sha256 over the parts (0x1f between them). */
export function derivedId(kind: IdKind, ...parts: readonly string[]): string {
  const digest = createHash("sha256").update(parts.join("\u001f")).digest();
  return `${kind}_${base32(digest.subarray(0, 10))}`;
}

/** `kind_` + base32 of 10 random bytes: for requests without a request id. */
export function randomId(kind: IdKind, rand: Rand): string {
  return `${kind}_${base32(rand.bytes(10))}`;
}

/** Address of the first row of an inference. Row k of a request is `number + k`. */
export type InferenceAddress = { track: number; boot: number; number: number };

const FORMAT = 1;
const BODY_BYTES = 13;

/** The text form of an inference id; `key` is the epoch's MAC key. */
export function inferenceId(address: InferenceAddress, key: Uint8Array): string {
  const bytes = Buffer.alloc(16);
  bytes[0] = FORMAT;
  bytes.writeUIntBE(address.track, 1, 3);
  bytes.writeUInt32BE(address.boot, 4);
  bytes.writeUIntBE(address.number, 8, 5);
  macOf(bytes, key).copy(bytes, BODY_BYTES);
  return `inf_${base32(bytes)}`;
}

/** The address inside an id, or why it is refused. Any of `keys` may have made it. */
export function readInferenceId(
  id: string,
  keys: readonly Uint8Array[],
): { kind: "ok"; address: InferenceAddress } | { kind: "malformed" } | { kind: "wrong-mac" } {
  if (!id.startsWith("inf_") || id.length !== 30) return { kind: "malformed" };
  const decoded = fromBase32(id.slice(4));
  if (decoded === undefined || decoded[0] !== FORMAT) return { kind: "malformed" };
  const bytes = Buffer.from(decoded);
  const mac = bytes.subarray(BODY_BYTES);
  if (!keys.some((key) => timingSafeEqual(macOf(bytes, key), mac))) return { kind: "wrong-mac" };
  return {
    kind: "ok",
    address: { track: bytes.readUIntBE(1, 3), boot: bytes.readUInt32BE(4), number: bytes.readUIntBE(8, 5) },
  };
}

function macOf(bytes: Buffer, key: Uint8Array): Buffer {
  return createHmac("sha256", key).update(bytes.subarray(0, BODY_BYTES)).digest().subarray(0, 3);
}

/** A track's partition: fixed at registration. */
export function partitionOf(ordinal: number): number {
  return ordinal % 64;
}

export type DecisionKind = "verdict" | "episode" | "evidence";

/** Names what drift decided of a track by one message of MESH_PANE: the argument of `Drift.Replay`, as in `episode-3-1042`. */
export function decisionId(kind: DecisionKind, track: number, seq: number): string {
  return `${kind}-${track}-${seq}`;
}

/** What a decision's name says; undefined when it is none. */
export function readDecisionId(id: string): { kind: DecisionKind; track: number; seq: number } | undefined {
  const match = /^(verdict|episode|evidence)-(\d{1,8})-(\d{1,15})$/.exec(id);
  if (match === null) return undefined;
  return { kind: match[1] as DecisionKind, track: Number(match[2]), seq: Number(match[3]) };
}
