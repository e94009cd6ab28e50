// Rows through gateway and sidecar with recording on, as a client would send them: one machine, everything on the same cores.
// Figures are medians of repeats in one run; compare them with each other, not with another machine's.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connectClient } from "#kernel/rpc/connect.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";
import { driftmesh, startMesh, type TestMesh } from "../../test/kit/mesh.ts";
import { FEATURES } from "../../examples/flights/features.ts";
import { requestOf } from "../../examples/flights/story/feed.ts";
import { flightModel } from "./model.ts";

type Service = { name: string; pid: number };
const SIZES = [1, 16, 256] as const;
const IN_FLIGHT = 16;

/** The body of the report: rows per second and CPU per row by request size, memory, and times of the control side. */
export async function serving({ tiny }: { tiny: boolean }): Promise<string> {
  const repeats = tiny ? 1 : 5;
  const rowsPerRepeat = tiny ? 512 : 40_000;
  const bornMs = performance.now();
  await using mesh = await startMesh(["local:cpu=4,memory=4Gi"]);
  const devMs = performance.now() - bornMs;
  await mesh.json("register", await flightModel());
  const deployMs = await timed(() => mesh.json("deploy", "flight-bench"));
  const deployment = (await mesh.deployments.listDeployments({})).deployments[0]?.id ?? "";
  const replica = (await mesh.mesh.listReplicas({})).replicas.find((r) => r.phase === "Ready");
  const lines: string[] = [];
  for (const size of SIZES) {
    for (const [path, address] of [
      ["gateway", mesh.server],
      ["sidecar", replica?.address ?? ""],
    ] as const) {
      const runs: { rate: number; cpuUs: number; sidecarUs: number; gatewayUs: number }[] = [];
      for (let i = 0; i <= repeats; i++) {
        const measured = await load(mesh, address, { size, rows: Math.min(rowsPerRepeat, size * (tiny ? 64 : 4000)) });
        if (i > 0 || repeats === 1) runs.push(measured);
      }
      const of = (key: keyof (typeof runs)[number]): number => median(runs.map((r) => r[key]));
      const rates = runs.map((r) => Math.round(r.rate));
      lines.push(
        `| ${path} | ${size} | ${Math.round(of("rate"))} | ${Math.min(...rates)}-${Math.max(...rates)} | ${of("sidecarUs").toFixed(1)} | ${of("gatewayUs").toFixed(1)} | ${of("cpuUs").toFixed(1)} |`,
      );
    }
  }
  await mesh.json("decommission", deployment);
  const cachedMs = await timed(() => mesh.json("deploy", "flight-bench"));
  const commandMs = await timed(() => driftmesh(["explain", "DM-2001"]));
  const memory = (await services(mesh)).map(({ name, pid }) => ({ name, mib: rssMib(pid) }));
  const total = memory.reduce((sum, { mib }) => sum + mib, 0);
  return [
    "## Rows through the mesh, recording on",
    "",
    `${IN_FLIGHT} requests in flight from one client on the same ${tiny ? "(tiny run) " : ""}cores; median of ${repeats} repeats after a warm-up. The model is the flights' forest of 160 trees.`,
    "",
    "| to | rows per request | rows/s | range | sidecar CPU us/row | gateway CPU us/row | all services' CPU us/row |",
    "|---|---|---|---|---|---|---|",
    ...lines,
    "",
    "## Times",
    "",
    "| what | ms |",
    "|---|---|",
    `| \`driftmesh dev --detach\`, command included | ${devMs.toFixed(0)} |`,
    `| deploy to Ready, command included | ${deployMs.toFixed(0)} |`,
    `| cached to Ready, command included | ${cachedMs.toFixed(0)} |`,
    `| a command that does nothing on the mesh | ${commandMs.toFixed(0)} |`,
    "",
    "## Memory after the load (RSS, MiB)",
    "",
    "| process | MiB |",
    "|---|---|",
    ...memory.map(({ name, mib }) => `| ${name} | ${mib.toFixed(0)} |`),
    `| total | ${total.toFixed(0)} |`,
    "",
  ].join("\n");
}

/** Sends `rows` rows in requests of `size`; rows/s, and CPU of services per row in microseconds. */
async function load(mesh: TestMesh, address: string, { size, rows }: { size: number; rows: number }) {
  const client = connectClient(GRPCInferenceService, address);
  const request = {
    ...requestOf(exampleColumns(size), new Float64Array(size)),
    modelName: "flight-bench",
    parameters: {},
  };
  const wanted = Math.max(IN_FLIGHT, Math.floor(rows / size));
  const before = await usage(mesh);
  const startMs = performance.now();
  let sent = 0;
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      while (sent < wanted) {
        sent++;
        await client.modelInfer(request);
      }
    }),
  );
  const seconds = (performance.now() - startMs) / 1000;
  const after = await usage(mesh);
  const spent = (pick: (name: string) => boolean): number => {
    let us = 0;
    for (const [name, value] of after) if (pick(name)) us += value - (before.get(name) ?? 0);
    return us / (wanted * size);
  };
  return {
    rate: (wanted * size) / seconds,
    cpuUs: spent(() => true),
    sidecarUs: spent((name) => name.startsWith("replica/")),
    gatewayUs: spent((name) => name === "gateway"),
  };
}

function exampleColumns(size: number) {
  const values: Readonly<Record<string, number | string>> = {
    hour: 17,
    weekday: 5,
    distance: 606,
    origin: "ATL",
    destination: "ORD",
  };
  return FEATURES.map(({ name, type }) => {
    const value = values[name] ?? 0.2;
    return type === "number"
      ? { name, type, values: new Float32Array(size).fill(Number(value)) }
      : { name, type, values: Array.from({ length: size }, () => String(value)) };
  });
}

async function services(mesh: TestMesh): Promise<Service[]> {
  const status = JSON.parse((await driftmesh(["status", "--data", mesh.data, "-o", "json"])).out) as {
    services: Service[];
  };
  return status.services.filter(({ pid }) => pid > 0);
}

/** CPU of each service so far, in microseconds, from /proc (Linux; 0 elsewhere). */
async function usage(mesh: TestMesh): Promise<Map<string, number>> {
  const tickUs = 10_000;
  return new Map(
    (await services(mesh)).map(({ name, pid }) => {
      try {
        const fields =
          readFileSync(join("/proc", String(pid), "stat"), "utf8")
            .split(") ")[1]
            ?.split(" ") ?? [];
        return [name, (Number(fields[11]) + Number(fields[12])) * tickUs];
      } catch {
        return [name, 0];
      }
    }),
  );
}

function rssMib(pid: number): number {
  try {
    const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(join("/proc", String(pid), "status"), "utf8"));
    return Number(line?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
