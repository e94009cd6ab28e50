// Server reflection from the descriptor set that buf built, so that imports (Timestamp and the like) resolve.
// R1 `driftmesh.internal` is never shown. R2 A file is answered together with everything it imports.
import { readFileSync } from "node:fs";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  type DescriptorProto,
  type FileDescriptorProto,
} from "@bufbuild/protobuf/wkt";
import { GRPC } from "../fault/table.ts";

const DESCRIPTORS = new URL("../../proto/gen/descriptors.binpb", import.meta.url);

type MessageRequest =
  | { case: "fileByFilename" | "fileContainingSymbol" | "allExtensionNumbersOfType" | "listServices"; value: string }
  | { case: "fileContainingExtension"; value: { containingType: string; extensionNumber: number } }
  | { case: undefined; value?: undefined };

/** The request of either version of the protocol. */
export type ReflectionRequest = { host: string; messageRequest: MessageRequest };
type MessageResponse =
  | { case: "fileDescriptorResponse"; value: { fileDescriptorProto: Uint8Array[] } }
  | { case: "listServicesResponse"; value: { service: { name: string }[] } }
  | { case: "allExtensionNumbersResponse"; value: { baseTypeName: string; extensionNumber: number[] } }
  | { case: "errorResponse"; value: { errorCode: number; errorMessage: string } };
export type ReflectionResponse<R> = { validHost: string; originalRequest: R; messageResponse: MessageResponse };

type Index = { files: Map<string, FileDescriptorProto>; symbols: Map<string, string> };
let loaded: Index | undefined;

/** Answers reflection requests of a server that serves `services`. */
export function reflectionOf(services: readonly string[]) {
  const names = services.filter((name) => !hidden(name)).toSorted();
  return <R extends ReflectionRequest>(request: R): ReflectionResponse<R> => ({
    validHost: request.host,
    originalRequest: request,
    messageResponse: answer(request.messageRequest, names),
  });
}

/** True for what reflection and the gateway never show. */
function hidden(name: string): boolean {
  return name.startsWith("driftmesh.internal.");
}

function answer(request: MessageRequest, names: readonly string[]): MessageResponse {
  const index = load();
  switch (request.case) {
    case "listServices":
      return { case: "listServicesResponse", value: { service: names.map((name) => ({ name })) } };
    case "fileByFilename":
      return files(index, request.value, request.value);
    case "fileContainingSymbol":
      return files(index, index.symbols.get(request.value), request.value);
    case "allExtensionNumbersOfType":
      return index.symbols.has(request.value)
        ? { case: "allExtensionNumbersResponse", value: { baseTypeName: request.value, extensionNumber: [] } }
        : notFound(request.value);
    case "fileContainingExtension":
      return notFound(`extension ${request.value.extensionNumber} of ${request.value.containingType}`);
    default:
      return {
        case: "errorResponse",
        value: { errorCode: GRPC.INVALID_ARGUMENT, errorMessage: "the request asks nothing that is known here" },
      };
  }
}

function files(index: Index, name: string | undefined, asked: string): MessageResponse {
  const wanted = new Map<string, Uint8Array>();
  const visit = (fileName: string): void => {
    const file = index.files.get(fileName);
    if (file === undefined || wanted.has(fileName)) return;
    wanted.set(fileName, toBinary(FileDescriptorProtoSchema, file));
    file.dependency.forEach(visit);
  };
  if (name !== undefined) visit(name);
  if (wanted.size === 0) return notFound(asked);
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto: [...wanted.values()] } };
}

function notFound(asked: string): MessageResponse {
  return { case: "errorResponse", value: { errorCode: GRPC.NOT_FOUND, errorMessage: `nothing is called ${asked}` } };
}

function load(): Index {
  if (loaded !== undefined) return loaded;
  const index: Index = { files: new Map(), symbols: new Map() };
  for (const file of fromBinary(FileDescriptorSetSchema, readFileSync(DESCRIPTORS)).file) {
    if (hidden(`${file.package}.`)) continue;
    index.files.set(file.name, file);
    const add = (symbol: string): unknown => index.symbols.set(symbol, file.name);
    const scope = file.package === "" ? "" : `${file.package}.`;
    for (const message of file.messageType) addMessage(scope, message, add);
    for (const { name, value } of file.enumType) [name, ...value.map((v) => v.name)].forEach((n) => add(scope + n));
    for (const service of file.service) {
      add(scope + service.name);
      for (const method of service.method) add(`${scope}${service.name}.${method.name}`);
    }
  }
  loaded = index;
  return index;
}

function addMessage(scope: string, message: DescriptorProto, add: (symbol: string) => void): void {
  const full = scope + message.name;
  add(full);
  for (const field of [...message.field, ...message.oneofDecl, ...message.enumType]) add(`${full}.${field.name}`);
  for (const nested of message.nestedType) addMessage(`${full}.`, nested, add);
}
