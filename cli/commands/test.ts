// `driftmesh test`: unit, integration and end-to-end tests, each kind in a vitest process of its own.
// T1 The last line is `N passed, N failed`, with `, N skipped` when there are any. T2 What could not be run counts as failed.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { type Command, type Context, UsageError } from "../terminal/door.ts";

const KINDS = ["unit", "integration", "e2e"] as const;
type Kind = (typeof KINDS)[number];
const CONFIGS: Readonly<Record<Kind, string>> = {
  unit: "test/vitest.config.ts",
  integration: "test/vitest.integration.config.ts",
  e2e: "test/vitest.e2e.config.ts",
};

export function describe(command: Command): void {
  command
    .argument("[files...]", "parts of file names: only tests in files that contain one of them")
    .option("--only <kind>", `one kind of tests: ${KINDS.join(", ")}`)
    .addHelpText(
      "after",
      "\nThe last line is `N passed, N failed`.\n\nExample:\n  driftmesh test --only unit kernel/base",
    );
}

export async function run(context: Context, command: Command): Promise<number> {
  const { only } = command.opts<{ only?: string }>();
  const kinds = KINDS.filter((kind) => only === undefined || kind === only);
  if (kinds.length === 0) throw new UsageError(`there is no kind "${only}"`, `kinds are ${KINDS.join(", ")}`);
  const folder = await mkdtemp(join(tmpdir(), "driftmesh-tests-"));
  const total: Count = { passed: 0, failed: 0, skipped: 0 };
  try {
    for (const kind of kinds) {
      if (context.signal.aborted) break;
      context.terminal.out(`\n== ${kind} tests ==\n`);
      const report = join(folder, `${kind}.json`);
      const code = await vitest(context, { kind, files: command.args, report });
      add(total, counted(await readFile(report, "utf8").catch(() => ""), code));
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const skipped = total.skipped === 0 ? "" : `, ${total.skipped} skipped`;
  context.terminal.out(`\n${total.passed} passed, ${total.failed} failed${skipped}\n`);
  return total.failed === 0 ? 0 : 1;
}

async function vitest(
  context: Context,
  { kind, files, report }: { kind: Kind; files: readonly string[]; report: string },
): Promise<number> {
  const { root, env } = context;
  const own = Object.entries(env).filter(
    ([name]) => !name.startsWith("DRIFTMESH_") || name === "DRIFTMESH_NATS_SERVER",
  );
  const path = [dirname(process.execPath), join(root, "node_modules/.bin"), env["PATH"] ?? ""].join(delimiter);
  const options = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`, "--passWithNoTests"];
  const program = [
    join(root, "node_modules/vitest/vitest.mjs"),
    "run",
    "--config",
    CONFIGS[kind],
    ...options,
    ...files,
  ];
  const child = spawn(process.execPath, program, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...Object.fromEntries(own), PATH: path },
  });
  const { promise, resolve } = Promise.withResolvers<number>();
  child.once("error", () => resolve(127));
  child.once("exit", (code) => resolve(code ?? 1));
  const onAbort = (): void => void child.kill("SIGINT");
  context.signal.addEventListener("abort", onAbort, { once: true });
  return await promise;
}

export type Count = { passed: number; failed: number; skipped: number };

type Report = {
  numPassedTests?: number;
  numFailedTests?: number;
  numPendingTests?: number;
  numTodoTests?: number;
  success?: boolean;
  testResults?: readonly { status?: string; assertionResults?: readonly unknown[] }[];
};

/** Counts of vitest's JSON report; a file that could not be loaded, and a run that broke off, count as one failure each (T2). */
export function counted(json: string, code: number): Count {
  if (json === "") return { passed: 0, failed: 1, skipped: 0 };
  const report = JSON.parse(json) as Report;
  const broken =
    report.testResults?.filter((file) => file.status === "failed" && file.assertionResults?.length === 0).length ?? 0;
  const failed = (report.numFailedTests ?? 0) + broken;
  return {
    passed: report.numPassedTests ?? 0,
    failed: failed === 0 && code !== 0 ? 1 : failed,
    skipped: (report.numPendingTests ?? 0) + (report.numTodoTests ?? 0),
  };
}

function add(total: Count, more: Count): void {
  total.passed += more.passed;
  total.failed += more.failed;
  total.skipped += more.skipped;
}
