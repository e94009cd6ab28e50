// The mesh's error: a row of the table, a sentence that names what is wrong, and the fields at fault.
import { FAULTS, type FaultCode, type FaultRow } from "./table.ts";

/** One field at fault: its path in the request or file, and what was expected. */
export type Violation = { field: string; description: string };

/** Thrown when a call cannot go on. `message` is one sentence naming the thing and what was expected. */
export class MeshError extends Error {
  readonly fault: FaultCode;
  readonly violations: readonly Violation[];

  constructor(fault: FaultCode, message: string, more: { cause?: unknown; violations?: readonly Violation[] } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = "MeshError";
    this.fault = fault;
    this.violations = more.violations ?? [];
  }

  get row(): FaultRow {
    return FAULTS[this.fault];
  }
}

/** Message of anything thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
