// The pages of docs/ that are made from tables in the code.
import { FAULTS, GRPC } from "#kernel/fault/table.ts";
import { explain } from "../cli/describe/door.ts";

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

const PARTS = [
  "",
  "train_code",
  "training_data",
  "features",
  "inference",
  "inference.inputs",
  "policy",
  "run_resources",
];

/** docs/description.md: every field of a description, from the comments of proto/driftmesh/v1/model.proto. */
export function descriptionPage(): string {
  const sections = PARTS.map((part) => {
    const topic = part === "" ? "model" : `model.${part}`;
    const found = explain(topic);
    return `## ${topic}\n\n\`\`\`\n${found.kind === "ok" ? found.text.trimEnd() : ""}\n\`\`\`\n`;
  });
  return [
    "# The model description",
    "",
    "Made by `npm run gen` from proto/driftmesh/v1/model.proto; `driftmesh explain model.FIELD` prints the same. A file is YAML or JSON.",
    "The paper's names in brackets and lowerCamelCase are accepted too. Unknown fields, wrong types and contradictions are all reported",
    "at once, with line, column, what was expected and the nearest known name. examples/flights/model.yaml uses every part.",
    "",
    ...sections,
  ].join("\n");
}
