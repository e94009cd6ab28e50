// Chromium without a window, by its debugging port: opens pages and evaluates expressions in them.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export const CHROMIUM = "/usr/bin/chromium";
const OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"];

type Reply = { id?: number; result?: { result?: { value?: unknown }; exceptionDetails?: unknown } };

/** A browser with a profile of its own; `await using` ends it. */
export async function startChromium() {
  const profile = await mkdtemp(join(tmpdir(), "driftmesh-chromium-"));
  const child = spawn(CHROMIUM, [...OPTIONS, `--user-data-dir=${profile}`], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  const sockets: WebSocket[] = [];
  const port = await debuggingPort(child);
  return {
    /** Loads a page, runs the script in it, and returns how to evaluate there (promises are waited for). */
    open: async (url: string, script: string): Promise<(expression: string) => Promise<string>> => {
      const made = await fetch(`http://127.0.0.1:${port}/json/new?${encodeURIComponent(url)}`, { method: "PUT" });
      const { webSocketDebuggerUrl } = (await made.json()) as { webSocketDebuggerUrl: string };
      const socket = new WebSocket(webSocketDebuggerUrl);
      sockets.push(socket);
      await once(socket, "open");
      const evaluate = evaluator(socket);
      while ((await evaluate("location.href + document.readyState")) !== `${new URL(url).href}complete`);
      await evaluate(`${script}\n"loaded"`);
      return evaluate;
    },
    [Symbol.asyncDispose]: async (): Promise<void> => {
      for (const socket of sockets) socket.close();
      child.kill();
      await ended;
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function debuggingPort(child: ChildProcess): Promise<string> {
  if (child.stderr === null) throw new Error("no stderr");
  for await (const line of createInterface({ input: child.stderr })) {
    const port = /^DevTools listening on ws:\/\/127\.0\.0\.1:(\d+)\//.exec(line)?.[1];
    if (port === undefined) continue;
    child.stderr.resume();
    return port;
  }
  throw new Error("chromium ended before it listened");
}

function evaluator(socket: WebSocket): (expression: string) => Promise<string> {
  const waiting = new Map<number, (reply: Reply) => void>();
  let last = 0;
  socket.addEventListener("message", ({ data }) => {
    const reply = JSON.parse(String(data)) as Reply;
    if (reply.id !== undefined) waiting.get(reply.id)?.(reply);
  });
  return async (expression) => {
    const id = ++last;
    const { promise, resolve } = Promise.withResolvers<Reply>();
    waiting.set(id, resolve);
    const params = { expression, awaitPromise: true, returnByValue: true };
    socket.send(JSON.stringify({ id, method: "Runtime.evaluate", params }));
    const { result } = await promise;
    waiting.delete(id);
    if (result?.exceptionDetails !== undefined) throw new Error(JSON.stringify(result.exceptionDetails));
    return String(result?.result?.value);
  };
}
