// `driftmesh get KIND`: lists, and watches lists.
import { kindOf, KINDS } from "../resources/door.ts";
import { type Command, type Context, printListing, watchListing, type Listing } from "../terminal/door.ts";

type Options = { model?: string; all?: boolean; watch?: boolean };
const WATCH_MS = 500;

export function describe(command: Command): void {
  command
    .argument("<kind>", KINDS.map((kind) => kind.name).join(", "))
    .option("--model <name>", "only of this model")
    .option("-a, --all", "ended ones too")
    .option("-w, --watch", "print again at each change")
    .addHelpText("after", "\nExample:\n  driftmesh get models\n  driftmesh get rollouts --watch");
}

export async function run(context: Context, command: Command): Promise<void> {
  const options = command.opts<Options>();
  const kind = kindOf(command.args[0] ?? "");
  const asked = { all: options.all === true, model: options.model ?? "" };
  if (options.watch !== true) return await printListing(context, await kind.list(context, asked));
  await watchListing(
    context,
    changes(context, () => kind.list(context, asked)),
  );
}

/** The listing now and whenever its content changes, looked at twice a second. */
async function* changes(context: Context, list: () => Promise<Listing<unknown>>): AsyncGenerator<Listing<unknown>> {
  for (let last = ""; ; await context.clock.sleep(WATCH_MS, context.signal)) {
    const listing = await list();
    const text = JSON.stringify(listing.json);
    if (text !== last) yield listing;
    last = text;
  }
}
