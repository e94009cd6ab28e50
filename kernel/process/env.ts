// Settings out of the environment. S1 All problems are reported together. S2 Nothing else reads `process.env`.
import { MeshError, type Violation } from "../fault/error.ts";

/** The environment of a process, as an argument. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** How one setting is read: the value, or a sentence that says what was expected. */
export type Setting<T> = { variable: string; read(raw: string | undefined): { value: T } | { problem: string } };

/** Reads every setting of `shape`; throws DM-1002 naming each variable at fault. */
export function readSettings<T>(env: Environment, shape: { [K in keyof T]: Setting<T[K]> }): T {
  const settings: Partial<T> = {};
  const violations: Violation[] = [];
  for (const key of Object.keys(shape) as (keyof T)[]) {
    const setting = shape[key];
    const outcome = setting.read(env[setting.variable]);
    if ("value" in outcome) settings[key] = outcome.value;
    else violations.push({ field: setting.variable, description: outcome.problem });
  }
  if (violations.length > 0) {
    const named = violations.map((v) => `${v.field} ${v.description}`).join("; ");
    throw new MeshError("DM-1002", `the environment has ${violations.length} mistake(s): ${named}`, { violations });
  }
  return settings as T;
}

/** A text that must be there, unless it has a default. */
export function text(variable: string, options: { default?: string; oneOf?: readonly string[] } = {}): Setting<string> {
  return {
    variable,
    read(raw) {
      const value = raw === undefined || raw === "" ? options.default : raw;
      if (value === undefined) return { problem: "is not set" };
      if (options.oneOf !== undefined && !options.oneOf.includes(value)) {
        return { problem: `is "${value}", expected one of ${options.oneOf.join(", ")}` };
      }
      return { value };
    },
  };
}

/** A text that may be absent; an empty one is absent. */
export function optionalText(variable: string): Setting<string | undefined> {
  return { variable, read: (raw) => ({ value: raw === "" ? undefined : raw }) };
}

/** A whole number within bounds. */
export function integer(
  variable: string,
  options: { default?: number; min?: number; max?: number } = {},
): Setting<number> {
  const { min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } = options;
  return {
    variable,
    read(raw) {
      if (raw === undefined || raw === "") {
        return options.default === undefined ? { problem: "is not set" } : { value: options.default };
      }
      const value = Number(raw);
      if (!Number.isSafeInteger(value) || value < min || value > max) {
        return { problem: `is "${raw}", expected a whole number from ${min} to ${max}` };
      }
      return { value };
    },
  };
}

/** `1` or `true`, `0` or `false`; absent means the default (false). */
export function flag(variable: string, options: { default?: boolean } = {}): Setting<boolean> {
  return {
    variable,
    read(raw) {
      if (raw === undefined || raw === "") return { value: options.default ?? false };
      if (raw === "1" || raw === "true") return { value: true };
      if (raw === "0" || raw === "false") return { value: false };
      return { problem: `is "${raw}", expected 1 or 0` };
    },
  };
}

/** Comma-separated texts, blanks trimmed, empties left out. */
export function list(variable: string): Setting<readonly string[]> {
  return {
    variable,
    read: (raw) => ({
      value: (raw ?? "")
        .split(",")
        .map((part) => part.trim())
        .filter((part) => part !== ""),
    }),
  };
}
