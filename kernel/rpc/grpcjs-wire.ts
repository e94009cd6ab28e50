// What the grpc-js server and client share: method definitions out of protobuf-es descriptors, errors in both directions.
import { create, fromBinary, isMessage, toBinary, type DescMethod, type DescService } from "@bufbuild/protobuf";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { logVerbosity, Metadata, setLogVerbosity, type ChannelOptions, type MethodDefinition } from "@grpc/grpc-js";
import type { ServiceError, StatusObject } from "@grpc/grpc-js";
import { MeshError } from "../fault/error.ts";
import { GRPC } from "../fault/table.ts";
import { callerStatus, meshErrorFrom, readStatusBytes, statusBytes } from "./faults.ts";
import { STREAM_WINDOW_BYTES } from "./windows.ts";

// What grpc-js writes to the console comes back as errors; our log says it once.
setLogVerbosity(logVerbosity.NONE);

const DETAILS = "grpc-status-details-bin";
const MAX_MESSAGE_BYTES = 64 << 20;

/** Settings of every channel and server: large tensors in one window, no proxy of the environment. */
export function channelOptions(maxMessageBytes = MAX_MESSAGE_BYTES): ChannelOptions {
  return {
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": maxMessageBytes,
    "grpc-node.flow_control_window": STREAM_WINDOW_BYTES,
    "grpc-node.max_session_memory": 1_024,
    "grpc.enable_http_proxy": 0,
    "grpc.enable_channelz": 0,
  };
}

type Definition = MethodDefinition<unknown, unknown>;

/** grpc-js' definition of one method. Bytes fields of what is read stay views on the received buffer. */
export function methodDefinition(service: DescService, method: DescMethod): Definition {
  const streams = method.methodKind;
  return {
    path: `/${service.typeName}/${method.name}`,
    requestStream: streams === "client_streaming" || streams === "bidi_streaming",
    responseStream: streams === "server_streaming" || streams === "bidi_streaming",
    requestSerialize: (value) => encode(method.input, value),
    requestDeserialize: (bytes) => fromBinary(method.input, bytes),
    responseSerialize: (value) => encode(method.output, value),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes),
  };
}

function encode(desc: DescMessage, value: unknown): Buffer {
  const message = isMessage(value, desc) ? value : create(desc, value as MessageInitShape<DescMessage>);
  const bytes = toBinary(desc, message);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Anything thrown by a handler, as grpc-js sends it. */
export function toStatusObject(thrown: unknown): StatusObject {
  const status = callerStatus(thrown);
  const metadata = new Metadata();
  if (status.details.length > 0) metadata.set(DETAILS, Buffer.from(statusBytes(status)));
  return { code: status.code, details: status.message, metadata };
}

/** A status that grpc-js gave to a client, as the error our code works with. */
export function fromServiceError(thrown: unknown): Error {
  if (!isServiceError(thrown)) return thrown instanceof Error ? thrown : new Error(String(thrown));
  const sent = thrown.metadata?.get(DETAILS)[0];
  const status = sent instanceof Uint8Array ? readStatusBytes(sent) : undefined;
  const mesh = meshErrorFrom(status?.message ?? thrown.details, status?.details ?? [], thrown);
  if (mesh !== undefined) return mesh;
  if (thrown.code === GRPC.DEADLINE_EXCEEDED)
    return new MeshError("DM-3007", "the deadline passed before the answer", { cause: thrown });
  return thrown;
}

/** gRPC status code of an error of a client call: of a MeshError, of what grpc-js says, or undefined. */
export function grpcCodeOf(thrown: unknown): number | undefined {
  if (thrown instanceof MeshError) return thrown.row.code;
  return isServiceError(thrown) ? thrown.code : undefined;
}

function isServiceError(thrown: unknown): thrown is ServiceError {
  return thrown instanceof Error && "code" in thrown && typeof thrown.code === "number" && "details" in thrown;
}
