// A command's context for tests: what is printed is kept, Ctrl-C is a call.
import { systemClock } from "#kernel/base/clock.ts";
import { systemRand } from "#kernel/base/rand.ts";
import { connectClient } from "#kernel/rpc/connect.ts";
import type { Context, Format } from "../../cli/terminal/door.ts";

export type TestContext = Context & { out: string[]; talk: string[]; interrupt(): void };

export function testContext(options: { root: string; data: string; format?: Format }): TestContext {
  const out: string[] = [];
  const talk: string[] = [];
  const interrupted = new AbortController();
  return {
    env: { PATH: process.env["PATH"], HOME: options.data, NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"] },
    clock: systemClock,
    rand: systemRand,
    signal: interrupted.signal,
    root: options.root,
    cwd: options.root,
    server: "127.0.0.1:4747",
    data: options.data,
    format: options.format ?? "table",
    terminal: {
      out: (text) => out.push(text),
      talk: (text) => talk.push(text),
      paint: (_, text) => text,
      interactive: false,
    },
    connect: (service, address = "127.0.0.1:4747") => Promise.resolve(connectClient(service, address)),
    out,
    talk,
    interrupt: () => interrupted.abort(new DOMException("interrupted", "AbortError")),
  };
}
