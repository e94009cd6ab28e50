// Watching a list: redrawn on a terminal, one JSON line per change elsewhere.
import type { Context } from "./context.ts";
import { type Listing, printListing, tableText } from "./printer.ts";

/** Prints each listing of `changes` as it comes, until it ends; Ctrl-C ends it as it ends every command. */
export async function watchListing<T>(context: Context, changes: AsyncIterable<Listing<T>>): Promise<void> {
  const redraw = context.terminal.interactive && (context.format === "table" || context.format === "wide");
  let drawn = 0;
  for await (const listing of changes) {
    if (!redraw) {
      await printListing(context.format === "table" ? { ...context, format: "json" } : context, listing);
      continue;
    }
    const text = tableText(listing, context.format === "wide");
    context.terminal.out(`${drawn > 0 ? `\u001b[${drawn}A\u001b[J` : ""}${text}`);
    drawn = text.split("\n").length - 1;
  }
}
