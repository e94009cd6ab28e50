// What commands may use of the terminal.
export { type Context, type Format } from "./context.ts";
export { type Command, type CommandModule, repeatable, wholeNumber } from "./command.ts";
export { ConditionFound, UsageError } from "./errors.ts";
export { type Column, type Listing, printListing, printObject, age, bytes } from "./printer.ts";
export { watchListing } from "./watch.ts";
