// `driftmesh find`: models by what they must do.
import { toJson } from "@bufbuild/protobuf";
import { Discovery, FindModelsResponseSchema } from "#proto/driftmesh/v1/discovery_pb.ts";
import { FeatureType, Mode, ModelKind } from "#proto/driftmesh/v1/model_pb.ts";
import { type Command, type Context, printListing, repeatable, UsageError } from "../terminal/door.ts";

type Options = {
  kind?: string;
  words?: string;
  feature: string[];
  uses: string[];
  metric: string[];
  cpu?: string;
  memory?: string;
  explain: string[];
  strict?: string;
  limit?: string;
};

export function describe(command: Command): void {
  command
    .option("--kind <kind>", "binary-classification, multiclass-classification, regression or other")
    .option("--words <words>", "words in name or summary")
    .option("--feature <name:type>", "a feature you can send; number or category (repeatable)", repeatable, [])
    .option("--uses <name>", "a feature it must use (repeatable)", repeatable, [])
    .option("--metric <name=value>", "least metric, or greatest loss (repeatable)", repeatable, [])
    .option("--cpu <cores>", "most cores of one replica")
    .option("--memory <bytes>", "most memory of one replica, e.g. 512Mi")
    .option("--explain <way>", "a way of explaining it must offer (repeatable)", repeatable, [])
    .option("--strict <node>", "it must run in strict mode on this node")
    .option("--limit <n>", "most matches (default 10)")
    .addHelpText("after", "\nExample:\n  driftmesh find --kind binary-classification --metric auc=0.65");
}

export async function run(context: Context, command: Command): Promise<void> {
  const options = command.opts<Options>();
  const discovery = await context.connect(Discovery);
  const found = await discovery.findModels({
    limit: Number(options.limit ?? 0),
    requirements: {
      kind: kindOf(options.kind),
      words: options.words ?? "",
      features: options.feature.map(featureOf),
      uses: options.uses,
      metrics: Object.fromEntries(options.metric.map(metricOf)),
      resources: { cpu: Number(options.cpu ?? 0), memoryBytes: memoryOf(options.memory) },
      explainability: options.explain,
      mode: options.strict === undefined ? Mode.UNSPECIFIED : Mode.STRICT,
      node: options.strict ?? "",
    },
  });
  const rows = [
    ...found.matches.map((m) => ({ ...m, fits: "yes" })),
    ...found.nonMatches.map((m) => ({ ...m, fits: "no", score: 0, champion: false })),
  ];
  await printListing(context, {
    rows,
    columns: [
      { head: "MODEL", of: (r) => r.model },
      { head: "VERSION", of: (r) => (r.version === 0 ? "-" : String(r.version)), right: true },
      { head: "FITS", of: (r) => r.fits },
      { head: "SCORE", of: (r) => (r.fits === "yes" ? r.score.toFixed(2) : "-"), right: true },
      { head: "REASONS", of: (r) => r.reasons.join("; ") },
    ],
    json: toJson(FindModelsResponseSchema, found),
    name: (r) => `version/${r.model}:${r.version}`,
    empty: "no model is registered; try: driftmesh register my.onnx",
  });
}

function kindOf(text: string | undefined): ModelKind {
  if (text === undefined) return ModelKind.UNSPECIFIED;
  const kinds = new Map([
    ["binary-classification", ModelKind.BINARY_CLASSIFICATION],
    ["multiclass-classification", ModelKind.MULTICLASS_CLASSIFICATION],
    ["regression", ModelKind.REGRESSION],
    ["other", ModelKind.OTHER],
  ]);
  const kind = kinds.get(text);
  if (kind === undefined) throw new UsageError(`--kind is one of ${[...kinds.keys()].join(", ")}, not "${text}"`);
  return kind;
}

function featureOf(text: string): { name: string; type: FeatureType } {
  const [name = "", type = ""] = text.split(":");
  const types = new Map([
    ["", FeatureType.UNSPECIFIED],
    ["number", FeatureType.NUMBER],
    ["category", FeatureType.CATEGORY],
  ]);
  const known = types.get(type);
  if (known === undefined || name === "")
    throw new UsageError(`--feature is name:number or name:category, not "${text}"`);
  return { name, type: known };
}

function metricOf(text: string): [string, number] {
  const [name = "", value = ""] = text.split("=");
  if (name === "" || value === "" || !Number.isFinite(Number(value)))
    throw new UsageError(`--metric is name=value, not "${text}"`);
  return [name, Number(value)];
}

function memoryOf(text: string | undefined): bigint {
  if (text === undefined) return 0n;
  const match = /^(\d+)(Ki|Mi|Gi|)$/.exec(text);
  if (match === null) throw new UsageError(`--memory is bytes with Ki, Mi or Gi, not "${text}"`);
  return BigInt(match[1] ?? 0) * BigInt({ "": 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 }[match[2] ?? ""] ?? 1);
}
