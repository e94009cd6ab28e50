// The mesh's errors on the wire: status code, one sentence beginning with the code, google.rpc details; and back.
// F1 A MeshError that was sent and read again has the same code, sentence and fields.
// F2 An error nobody foresaw is DM-6008 to the caller; what it says stays in our log.
import { create, fromBinary, toBinary, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { anyPack, anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "#proto/google/rpc/error_details_pb.ts";
import { StatusSchema } from "#proto/google/rpc/status_pb.ts";
import { MeshError } from "../fault/error.ts";
import { FAULTS, GRPC, type FaultCode } from "../fault/table.ts";

export type Detail = { desc: DescMessage; value: MessageInitShape<DescMessage> };
export type Status = { code: number; message: string; details: Detail[] };

const DOMAIN = "driftmesh";
const RETRY_LATER_SECONDS = 1n;

/** Code, sentence and details of a MeshError. */
export function statusOf(error: MeshError): Status {
  const { code, fix, retry } = error.row;
  const details: Detail[] = [
    { desc: ErrorInfoSchema, value: { reason: error.fault, domain: DOMAIN, metadata: { fix } } },
  ];
  if (error.violations.length > 0) {
    const fieldViolations = error.violations.map(({ field, description }) => ({ field, description }));
    details.push({ desc: BadRequestSchema, value: { fieldViolations } });
  }
  if (retry !== "never") {
    const seconds = retry === "later" ? RETRY_LATER_SECONDS : 0n;
    details.push({ desc: RetryInfoSchema, value: { retryDelay: { seconds } } });
  }
  return { code, message: `(${error.fault}) ${error.message}`, details };
}

/** The bytes of `grpc-status-details-bin`. */
export function statusBytes(status: Status): Uint8Array {
  const details = status.details.map(({ desc, value }) => anyPack(desc, create(desc, value)));
  return toBinary(StatusSchema, create(StatusSchema, { code: status.code, message: status.message, details }));
}

/** Sentence and details inside `grpc-status-details-bin`; undefined when it cannot be read. */
export function readStatusBytes(bytes: Uint8Array): { message: string; details: Any[] } | undefined {
  try {
    return fromBinary(StatusSchema, bytes);
  } catch {
    return undefined;
  }
}

/** The MeshError that was sent, or undefined when the details are not ours. */
export function meshErrorFrom(message: string, details: readonly Any[], cause: unknown): MeshError | undefined {
  for (const any of details) {
    const info = anyUnpack(any, ErrorInfoSchema);
    if (info === undefined || info.domain !== DOMAIN || !(info.reason in FAULTS)) continue;
    const fault = info.reason as FaultCode;
    const violations = details.flatMap((detail) => anyUnpack(detail, BadRequestSchema)?.fieldViolations ?? []);
    const said = message.startsWith(`(${fault}) `) ? message.slice(fault.length + 3) : message;
    return new MeshError(fault, said, {
      cause,
      violations: violations.map(({ field, description }) => ({ field, description })),
    });
  }
  return undefined;
}

/** What a caller is told of anything thrown: a MeshError as it is, a cancellation as such, the rest as DM-6008 (F2). */
export function callerStatus(thrown: unknown): Status {
  if (thrown instanceof MeshError) return statusOf(thrown);
  const name = thrown instanceof Error ? thrown.name : "";
  if (name === "TimeoutError") return statusOf(new MeshError("DM-3007", "the deadline passed before the answer"));
  if (name === "AbortError") return { code: GRPC.CANCELLED, message: "the call was cancelled", details: [] };
  return statusOf(new MeshError("DM-6008", "internal error; the log of the service has the cause"));
}
