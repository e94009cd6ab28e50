// The Open Inference Protocol for callers that speak Connect or gRPC-Web (browsers, curl): messages are decoded here and sent on as gRPC.
// gRPC callers never come here: their bytes are forwarded as they are.
import { fromBinary, toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { MeshError } from "#kernel/fault/error.ts";
import type { ConnectRouter, HandlerContext } from "#kernel/rpc/connect.ts";
import {
  GRPCInferenceService,
  ModelInferRequestSchema,
  ModelInferResponseSchema,
  ModelMetadataRequestSchema,
  ModelMetadataResponseSchema,
  ModelReadyRequestSchema,
  ModelReadyResponseSchema,
} from "#proto/inference/grpc_service_pb.ts";
import type { OwnAnswers } from "./own.ts";

const DEADLINE_MS = 30_000;
const ID_HEADER = "driftmesh_inference_id";
const PASSED_ON = ["traceparent", "driftmesh_event_time"];

/** Sends an encoded message to a replica of `model`. */
export type CallReplica = (call: {
  path: string;
  model: string;
  message: Uint8Array;
  timeoutMs: number;
  headers: Readonly<Record<string, string>>;
  signal: AbortSignal;
}) => Promise<{ message: Uint8Array; headers: Readonly<Record<string, string | string[] | number | undefined>> }>;

/** Registers the service. */
export function inferenceRoutes(router: ConnectRouter, deps: { callReplica: CallReplica; own: OwnAnswers }): void {
  async function ask<I extends DescMessage, O extends DescMessage>(
    method: string,
    model: string,
    schemas: { in: I; out: O; request: MessageShape<I> },
    context: HandlerContext,
  ): Promise<MessageShape<O>> {
    if (model === "") {
      const violations = [{ field: "model_name", description: "expected a model or a deployment id" }];
      throw new MeshError("DM-1002", "the request names no model", { violations });
    }
    const headers: Record<string, string> = {};
    for (const name of PASSED_ON) {
      const value = context.requestHeader.get(name);
      if (value !== null) headers[name] = value;
    }
    const answer = await deps.callReplica({
      path: `/${GRPCInferenceService.typeName}/${method}`,
      model,
      message: toBinary(schemas.in, schemas.request),
      timeoutMs: context.timeoutMs() ?? DEADLINE_MS,
      headers,
      signal: context.signal,
    });
    const id = answer.headers[ID_HEADER];
    if (typeof id === "string") context.responseHeader.set(ID_HEADER, id);
    return fromBinary(schemas.out, answer.message);
  }
  router.service(GRPCInferenceService, {
    serverLive: () => deps.own.ServerLive(),
    serverReady: () => deps.own.ServerReady(),
    serverMetadata: () => deps.own.ServerMetadata(),
    modelInfer: (request, context) =>
      ask(
        "ModelInfer",
        request.modelName,
        { in: ModelInferRequestSchema, out: ModelInferResponseSchema, request },
        context,
      ),
    modelMetadata: (request, context) =>
      ask(
        "ModelMetadata",
        request.name,
        { in: ModelMetadataRequestSchema, out: ModelMetadataResponseSchema, request },
        context,
      ),
    async modelReady(request, context) {
      try {
        const schemas = { in: ModelReadyRequestSchema, out: ModelReadyResponseSchema, request };
        return await ask("ModelReady", request.name, schemas, context);
      } catch (error) {
        if (error instanceof MeshError && error.fault === "DM-3003") return { ready: false };
        throw error;
      }
    },
  });
}
