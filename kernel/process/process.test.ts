// Settings, log lines, metrics and spans.
import { expect, test } from "vitest";
import { flag, integer, list, optionalText, readSettings, text } from "./env.ts";
import { createLogger, silentLogger } from "./log.ts";
import { createMetrics } from "./metrics.ts";
import { readTraceparent, startSpan, startTracing } from "./trace.ts";

const SHAPE = {
  listen: text("DRIFTMESH_LISTEN", { default: "127.0.0.1:0" }),
  control: text("DRIFTMESH_CONTROL"),
  port: integer("DRIFTMESH_PORT", { default: 4747, min: 0, max: 65_535 }),
  loud: flag("DRIFTMESH_LOUD"),
  note: optionalText("DRIFTMESH_NOTE"),
  origins: list("DRIFTMESH_ORIGINS"),
};

test("settings take defaults, and empty texts count as absent", () => {
  const env = { DRIFTMESH_CONTROL: "127.0.0.1:1", DRIFTMESH_NOTE: "", DRIFTMESH_ORIGINS: " http://a , http://b," };
  expect(readSettings(env, SHAPE)).toEqual({
    listen: "127.0.0.1:0",
    control: "127.0.0.1:1",
    port: 4747,
    loud: false,
    note: undefined,
    origins: ["http://a", "http://b"],
  });
});

test("all mistakes of the environment are reported together", () => {
  const env = { DRIFTMESH_PORT: "70000", DRIFTMESH_LOUD: "maybe" };
  expect(() => readSettings(env, SHAPE)).toThrowError(
    expect.objectContaining({
      fault: "DM-1002",
      violations: [
        { field: "DRIFTMESH_CONTROL", description: "is not set" },
        { field: "DRIFTMESH_PORT", description: 'is "70000", expected a whole number from 0 to 65535' },
        { field: "DRIFTMESH_LOUD", description: 'is "maybe", expected 1 or 0' },
      ],
    }),
  );
});

test("a log line is one JSON object with the event, the service and the fields", () => {
  const lines: string[] = [];
  const log = createLogger("gateway", "info", { write: (line) => void lines.push(line) });
  log.debug("gateway.unsaid");
  log.child({ replica: "r1" }).warn("gateway.went-away", { error: new Error("gone"), seq: 7n });
  expect(lines).toHaveLength(1);
  expect(JSON.parse(lines[0] ?? "")).toMatchObject({
    level: "warn",
    event: "gateway.went-away",
    service: "gateway",
    replica: "r1",
    seq: "7",
    error: { message: "gone" },
  });
});

test("metrics come out as text, and asking twice for a name gives the same metric", async () => {
  const metrics = createMetrics("sidecar");
  for (let i = 0; i < 2; i++) metrics.counter("driftmesh_rows_total", "Rows.", ["kind"]).inc({ kind: "open" }, 2);
  metrics.gauge("driftmesh_depth", "Depth.").set({}, 3);
  metrics.histogram("driftmesh_wait_seconds", "Wait.", [1, 2]).observe({}, 1.5);
  const out = await metrics.text();
  expect(out).toContain('driftmesh_rows_total{kind="open",service="sidecar"} 4');
  expect(out).toContain('driftmesh_wait_seconds_bucket{le="2",service="sidecar"} 1');
  expect(() => metrics.gauge("rows", "No prefix.")).toThrow("driftmesh_");
});

test("tracing is off until an endpoint is set, and then carries the caller's trace on", async () => {
  expect(startSpan("a")).toBe(startSpan("b"));
  expect(startSpan("a").traceparent).toBeUndefined();
  const parent = `00-${"a1".repeat(16)}-${"b2".repeat(8)}-01`;
  const tracing = await startTracing("test", "http://127.0.0.1:1", silentLogger());
  const child = startSpan("child", parent);
  expect(child.traceparent).toMatch(new RegExp(`^00-${"a1".repeat(16)}-[0-9a-f]{16}-01$`));
  expect(child.traceparent).not.toBe(parent);
  expect(startSpan("root").traceparent).not.toContain("a1a1");
  await tracing[Symbol.asyncDispose]();
  expect(startSpan("a").traceparent).toBeUndefined();
});

test.each(["", "00-xyz", `00-${"0".repeat(32)}-${"b2".repeat(8)}-01`])("%j is not a trace context", (header) => {
  expect(readTraceparent(header)).toBeUndefined();
});
