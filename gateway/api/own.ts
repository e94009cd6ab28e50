// Methods of the Open Inference Protocol that the gateway answers for the mesh as a whole.
import { create, toBinary, type MessageShape } from "@bufbuild/protobuf";
import {
  ServerLiveResponseSchema,
  ServerMetadataResponseSchema,
  ServerReadyResponseSchema,
} from "#proto/inference/grpc_service_pb.ts";

export type OwnAnswers = {
  ServerLive: () => MessageShape<typeof ServerLiveResponseSchema>;
  ServerReady: () => MessageShape<typeof ServerReadyResponseSchema>;
  ServerMetadata: () => MessageShape<typeof ServerMetadataResponseSchema>;
};

/** The answers; the mesh is ready once the gateway knows the routes. */
export function ownAnswers(ready: () => boolean): OwnAnswers {
  return {
    ServerLive: () => create(ServerLiveResponseSchema, { live: true }),
    ServerReady: () => create(ServerReadyResponseSchema, { ready: ready() }),
    ServerMetadata: () => create(ServerMetadataResponseSchema, { name: "driftmesh", version: "0.1.0" }),
  };
}

/** The same as encoded messages by method name. */
export function encodedAnswers(own: OwnAnswers): Record<keyof OwnAnswers, () => Uint8Array> {
  return {
    ServerLive: () => toBinary(ServerLiveResponseSchema, own.ServerLive()),
    ServerReady: () => toBinary(ServerReadyResponseSchema, own.ServerReady()),
    ServerMetadata: () => toBinary(ServerMetadataResponseSchema, own.ServerMetadata()),
  };
}
