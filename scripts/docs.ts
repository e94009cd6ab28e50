// The pages of docs/ that are made from tables in the code.
import { FAULTS, GRPC } from "#kernel/fault/table.ts";

const GRPC_NAMES = new Map<number, string>(Object.entries(GRPC).map(([name, code]) => [code, name]));

/** docs/errors.md: every code, its gRPC code, whether to retry, what it means and what to do. */
export function errorsPage(): string {
  const rows = Object.entries(FAULTS).map(
    ([code, row]) => `| ${code} | ${GRPC_NAMES.get(row.code) ?? ""} | ${row.retry} | ${row.says} | ${row.fix} |`,
  );
  return [
    "# Errors",
    "",
    "Made by `npm run gen` from kernel/fault/table.ts. A code never changes its meaning. Every error carries its code in the",
    "sentence, in `google.rpc.ErrorInfo.reason`, and names the fields at fault in `google.rpc.BadRequest`.",
    "",
    "| code | gRPC | retry | what it means | what to do |",
    "|---|---|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}
