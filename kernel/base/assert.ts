// Assertions that stay on: what we promise ourselves. What others send is validated, not asserted.

/** Ends the current task when a promise of our own is broken. */
export function invariant(holds: unknown, promise: string): asserts holds {
  if (holds !== true) throw new Error(`invariant broken: ${promise}`);
}

/** The end of a switch over a tagged union. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}

/** The value, or an invariant failure that says what was missing. */
export function present<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) throw new Error(`invariant broken: ${what} is present`);
  return value;
}
