// An OTLP/gRPC collector that keeps names and ids of spans: the few fields of the protocol that tests read, described here.
import { createFileRegistry, fromJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { silentLogger } from "#kernel/process/log.ts";
import { grpcServer } from "#kernel/rpc/grpcjs.ts";

const PACKAGE = "opentelemetry.proto.collector.trace.v1";

export type SpanSeen = { service: string; name: string; trace: string };

type Attribute = { key: string; value?: { stringValue?: string } };
type Export = {
  resourceSpans: {
    resource?: { attributes: Attribute[] };
    scopeSpans: { spans: { traceId: Uint8Array; name: string }[] }[];
  }[];
};

/** Listens on a free port of this machine. */
export async function startCollector() {
  const seen: SpanSeen[] = [];
  const service = registry().getService(`${PACKAGE}.TraceService`);
  if (service === undefined) throw new Error("the descriptor has no TraceService");
  const take = (request: unknown): object => {
    for (const { resource, scopeSpans } of (request as Export).resourceSpans) {
      const name = resource?.attributes.find(({ key }) => key === "service.name")?.value?.stringValue ?? "";
      for (const span of scopeSpans.flatMap(({ spans }) => spans))
        seen.push({ service: name, name: span.name, trace: Buffer.from(span.traceId).toString("hex") });
    }
    return {};
  };
  const server = await grpcServer({
    listen: "127.0.0.1:0",
    log: silentLogger(),
    services: [{ service, handlers: { export: take } }],
  });
  return {
    endpoint: `http://${server.address}`,
    seen: (): readonly SpanSeen[] => seen,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

type Field = readonly [name: string, number: number, type: string, repeated?: "repeated"];

/** Names of messages are TYPE_MESSAGE fields' types. */
function message(name: string, fields: readonly Field[]) {
  return {
    name,
    field: fields.map(([field, number, type, repeated]) => ({
      name: field,
      number,
      label: repeated === undefined ? "LABEL_OPTIONAL" : "LABEL_REPEATED",
      ...(type.startsWith("TYPE_") ? { type } : { type: "TYPE_MESSAGE", typeName: `.${PACKAGE}.${type}` }),
    })),
  };
}

function registry() {
  const file = {
    name: "trace.proto",
    package: PACKAGE,
    syntax: "proto3",
    messageType: [
      message("Value", [["string_value", 1, "TYPE_STRING"]]),
      message("Attribute", [
        ["key", 1, "TYPE_STRING"],
        ["value", 2, "Value"],
      ]),
      message("Resource", [["attributes", 1, "Attribute", "repeated"]]),
      message("Span", [
        ["trace_id", 1, "TYPE_BYTES"],
        ["name", 5, "TYPE_STRING"],
      ]),
      message("ScopeSpans", [["spans", 2, "Span", "repeated"]]),
      message("ResourceSpans", [
        ["resource", 1, "Resource"],
        ["scope_spans", 2, "ScopeSpans", "repeated"],
      ]),
      message("ExportTraceServiceRequest", [["resource_spans", 1, "ResourceSpans", "repeated"]]),
      message("ExportTraceServiceResponse", []),
    ],
    service: [
      {
        name: "TraceService",
        method: [
          {
            name: "Export",
            inputType: `.${PACKAGE}.ExportTraceServiceRequest`,
            outputType: `.${PACKAGE}.ExportTraceServiceResponse`,
          },
        ],
      },
    ],
  };
  return createFileRegistry(fromJson(FileDescriptorSetSchema, { file: [file] }));
}
