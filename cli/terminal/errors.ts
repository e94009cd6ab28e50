// How a command fails: one sentence, where, a hint, the page; and the exit code (README.md has the table).
// X1 An answer of the mesh exits with 64 + its gRPC code; what was refused before any call exits with 2.
// X2 With -o json or yaml the same facts are one object on stderr; stdout stays empty.
import { FAULTS, type FaultCode, GRPC } from "#kernel/fault/table.ts";
import { MeshError, messageOf, type Violation } from "#kernel/fault/error.ts";
import type { Context } from "./context.ts";

/** The command line itself makes no sense: exit code 2. */
export class UsageError extends Error {
  readonly hint: string;
  constructor(message: string, hint = "") {
    super(message);
    this.name = "UsageError";
    this.hint = hint;
  }
}

/** The condition a gate asked for was found: exit code 3. */
export class ConditionFound extends Error {
  override readonly name = "ConditionFound";
}

/** Exit codes of what a command found out itself; NOT_FOUND: the mesh's list does not have it. */
const EXITS: Readonly<Record<number, number>> = { [GRPC.INVALID_ARGUMENT]: 2, [GRPC.NOT_FOUND]: 64 + GRPC.NOT_FOUND };

type Told = {
  exit: number;
  code: FaultCode | "";
  message: string;
  hint: string;
  violations: readonly Violation[];
};

/** Prints what went wrong and returns the exit code. */
export async function printError(
  context: Pick<Context, "format" | "terminal" | "server">,
  thrown: unknown,
): Promise<number> {
  const told = await tell(thrown, context.server);
  const { terminal } = context;
  if (context.format === "json" || context.format === "yaml") {
    const { exit, ...facts } = told;
    terminal.talk(`${JSON.stringify({ error: { ...facts, exit } })}\n`);
    return told.exit;
  }
  const code = told.code === "" || told.message.includes(told.code) ? "" : ` (${told.code})`;
  terminal.talk(`${terminal.paint("red", "✖")} ${told.message}${code}\n`);
  for (const { field, description } of told.violations)
    if (!told.message.includes(description)) terminal.talk(`  ${field}: ${description}\n`);
  if (told.hint !== "") terminal.talk(`  hint: ${told.hint}\n`);
  if (told.code !== "") terminal.talk(`  see: docs/errors.md, ${told.code}\n`);
  return told.exit;
}

async function tell(thrown: unknown, server: string): Promise<Told> {
  if (thrown instanceof UsageError) return told(2, "", thrown.message, thrown.hint);
  if (thrown instanceof ConditionFound) return told(3, "", thrown.message, "");
  if (thrown instanceof MeshError) return ofFault(thrown, EXITS[thrown.row.code] ?? 1);
  if (thrown instanceof Error && thrown.name === "ConnectError") return await ofAnswer(thrown, server);
  if (thrown instanceof Error && thrown.name === "AbortError") return told(130, "", "interrupted", "");
  return told(1, "", messageOf(thrown), "");
}

async function ofAnswer(thrown: Error, server: string): Promise<Told> {
  const { fromConnectError } = await import("#kernel/rpc/connect.ts");
  const error = fromConnectError(thrown);
  if (error instanceof MeshError) {
    const nobody = error.fault === "DM-6007" && error.message.startsWith("no mesh answers:");
    const message = nobody ? `no mesh answers at ${server}` : error.message;
    return { ...ofFault(error, 64 + error.row.code), message };
  }
  const code = "code" in thrown && typeof thrown.code === "number" ? thrown.code : GRPC.UNKNOWN;
  if (code === GRPC.CANCELLED) return told(130, "", "interrupted", "");
  if (code === GRPC.UNAVAILABLE)
    return told(64 + code, "DM-6007", `no mesh answers at ${server}`, FAULTS["DM-6007"].fix);
  return told(64 + code, "", error.message, "");
}

const ofFault = (error: MeshError, exit: number): Told => ({
  ...told(exit, error.fault, error.message, error.row.fix),
  violations: error.violations,
});
const told = (exit: number, code: FaultCode | "", message: string, hint: string): Told => ({
  exit,
  code,
  message,
  hint,
  violations: [],
});
