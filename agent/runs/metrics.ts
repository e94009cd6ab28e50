// metrics.json of a run: a flat object of finite numbers.
// N1 NaN and Infinity, which some trainers write though JSON has no such thing, are named, not called a syntax error.

/** The metrics, or a sentence that says what is wrong. */
export function parseMetrics(text: string): { metrics: Record<string, number> } | { problem: string } {
  let value: unknown;
  try {
    value = JSON.parse(
      text.replace(
        /("(?:[^"\\]|\\.)*")|(-?\b(?:NaN|Infinity)\b)/g,
        (_, quoted?: string, bare?: string) => quoted ?? `"${bare}"`,
      ),
    );
  } catch (thrown) {
    return { problem: `metrics.json is not JSON: ${thrown instanceof Error ? thrown.message : ""}` };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return { problem: "metrics.json is not an object of numbers" };
  const metrics: Record<string, number> = {};
  for (const [name, number] of Object.entries(value)) {
    if (typeof number !== "number") return { problem: `metrics.json: ${name} is ${said(number)}` };
    if (!Number.isFinite(number)) return { problem: `metrics.json: ${name} is ${number}` };
    metrics[name] = number;
  }
  return { metrics };
}

function said(value: unknown): string {
  if (typeof value === "string" && /^-?(NaN|Infinity)$/.test(value)) return value;
  return `${value === null ? "null" : Array.isArray(value) ? "a list" : `a ${typeof value}`}, not a number`;
}
