// What the chapters share: the mesh, the options, the printer, time, and what was found out on the way.
import type { Flights } from "../dataset.ts";
import type { FeedResult } from "./feed.ts";
import type { Json, Mesh } from "./mesh.ts";
import type { StoryOptions } from "./options.ts";
import type { Printer } from "./print.ts";
import type { Recorder } from "../policies.ts";
import type { Seen } from "./watch.ts";

export const MODEL = "flight-delay";

export type World = {
  mesh: Mesh;
  options: StoryOptions;
  print: Printer;
  flights: Flights;
  recorder: Recorder;
  nowMs: () => number;
  sleep: (ms: number) => Promise<void>;
  /** Deployment ids by name, as chapters make them. */
  follows: string;
  pinned: string;
  seen: Seen;
  fed: FeedResult | undefined;
  /** Called at each new event day, for those who want to disturb. */
  onDay: (day: number) => void;
};

/** A number inside an answer of the command line, by its path; NaN when it is not there. */
export function numberAt(json: Json, ...path: string[]): number {
  const value = at(json, path);
  return typeof value === "number" ? value : typeof value === "string" ? Number(value) : Number.NaN;
}

/** A text inside an answer of the command line, by its path; "" when it is not there. */
export function textAt(json: Json, ...path: string[]): string {
  const value = at(json, path);
  return typeof value === "string" ? value : "";
}

function at(json: unknown, path: readonly string[]): unknown {
  let value = json;
  for (const key of path) value = typeof value === "object" && value !== null ? (value as Json)[key] : undefined;
  return value;
}

/** Waits until `look` finds something, looking every 100 ms, at most `ms`. */
export async function until<T>(world: World, ms: number, look: () => Promise<T | undefined>): Promise<T | undefined> {
  for (const endMs = world.nowMs() + ms; world.nowMs() < endMs; await world.sleep(100)) {
    const found = await look();
    if (found !== undefined) return found;
  }
  return undefined;
}
