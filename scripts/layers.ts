// Who may know whom. Owns the table of arrows and the home folder of each npm package.
// A1 No service imports another. A2 Relative imports stay inside a top-level folder; across, #kernel and #proto.
// A3 Every npm package has one home. A4 Siblings inside a service meet in compose.ts, main.ts, plane.ts or a door.ts.
import { posix } from "node:path";
import type { Source } from "./sources.ts";

const SERVICES = ["control-plane", "sidecar", "gateway", "drift", "agent", "cli"];

/** kernel folders and the kernel folders they may import. */
const KERNEL: Readonly<Record<string, readonly string[]>> = {
  base: [],
  domain: ["base"],
  fault: ["base"],
  store: ["base", "fault", "domain", "process"],
  rpc: ["base", "fault", "process", "proto"],
  process: ["base", "fault", "rpc", "proto"],
};

/** Package prefix -> path prefixes that may import it. Tests and benches may import what they test with. */
const HOMES: readonly (readonly [string, readonly string[]])[] = [
  ["@nats-io/", ["kernel/store/nats/"]],
  ["@grpc/grpc-js", ["kernel/rpc/"]],
  ["@connectrpc/", ["kernel/rpc/"]],
  ["@bufbuild/protobuf", [""]],
  ["@opentelemetry/", ["kernel/process/"]],
  ["pino", ["kernel/process/"]],
  ["prom-client", ["kernel/process/"]],
  ["onnxruntime-node", ["sidecar/runtime/", "examples/"]],
  ["hyparquet", ["drift/join/", "sidecar/probe/", "examples/"]],
  ["hyparquet-writer", ["drift/join/", "examples/"]],
  ["commander", ["cli/"]],
  ["yaml", ["cli/"]],
  ["vega-datasets", ["examples/"]],
];

export type Problem = { path: string; line: number; says: string };

/** All arrows that the table does not allow. */
export function layerProblems(files: readonly Source[]): Problem[] {
  return files
    .filter((file) => file.path.endsWith(".ts"))
    .flatMap((file) =>
      importsOf(file.text).flatMap(({ specifier, line, typeOnly }) => {
        const says = judge(file.path, specifier, typeOnly);
        return says === undefined ? [] : [{ path: file.path, line, says }];
      }),
    );
}

function judge(path: string, specifier: string, typeOnly: boolean): string | undefined {
  const top = topOf(path);
  const test = /\.test\.ts$|\/testing\/|^test\/|^bench\/|^scripts\//.test(path);
  if (specifier.startsWith(".")) {
    const target = posix.join(posix.dirname(path), specifier);
    if (topOf(target) !== top && !(test && !SERVICES.includes(top)))
      return `A2 ${specifier} leaves ${top}/: use #kernel or #proto`;
    return top === "kernel" ? kernelArrow(path, target, test) : siblingArrow(path, target, test);
  }
  if (specifier.startsWith("#kernel/")) {
    return top === "kernel" ? kernelArrow(path, specifier.slice(1), test) : undefined;
  }
  if (specifier.startsWith("#proto/")) return top === "kernel" && !test ? kernelProto(path) : undefined;
  if (specifier.startsWith("node:") || specifier.startsWith("#")) return undefined;
  return test || typeOnly ? undefined : homeArrow(path, specifier);
}

function kernelArrow(path: string, target: string, test: boolean): string | undefined {
  const from = path.split("/")[1] ?? "";
  const to = target.split("/")[1] ?? "";
  if (test || from === to || KERNEL[from]?.includes(to) === true) return undefined;
  return `kernel/${from} may not import kernel/${to}`;
}

function kernelProto(path: string): string | undefined {
  const from = path.split("/")[1] ?? "";
  return KERNEL[from]?.includes("proto") === true ? undefined : `kernel/${from} may not import proto`;
}

function siblingArrow(path: string, target: string, test: boolean): string | undefined {
  const top = topOf(path);
  if (!SERVICES.includes(top) || test) return undefined;
  const from = path.split("/").length > 2 ? path.split("/")[1] : "";
  const to = target.split("/").length > 2 ? target.split("/")[1] : "";
  if (from === "" || from === to || to === "" || posix.basename(target) === "door.ts") return undefined;
  return `A4 ${top}/${from} may meet ${top}/${to} only through its door.ts`;
}

function homeArrow(path: string, specifier: string): string | undefined {
  const home = HOMES.find(([name]) => (name.endsWith("/") ? specifier.startsWith(name) : under(specifier, name)));
  if (home === undefined) return `A3 ${specifier} has no home folder in scripts/layers.ts`;
  return home[1].some((prefix) => path.startsWith(prefix))
    ? undefined
    : `A3 ${specifier} lives in ${home[1].join(", ")}`;
}

const under = (specifier: string, name: string): boolean => specifier === name || specifier.startsWith(`${name}/`);
const topOf = (path: string): string => path.split("/")[0] ?? "";

function importsOf(text: string): { specifier: string; line: number; typeOnly: boolean }[] {
  const found: { specifier: string; line: number; typeOnly: boolean }[] = [];
  const pattern = /^(?:import|export)\s+(type\s)?[^;"']*?from\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\("([^"]+)"\)/gm;
  for (const match of text.matchAll(pattern)) {
    const specifier = match[2] ?? match[3] ?? match[4];
    if (specifier === undefined) continue;
    const line = text.slice(0, match.index).split("\n").length;
    found.push({ specifier, line, typeOnly: match[1] !== undefined });
  }
  return found;
}
