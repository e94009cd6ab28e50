// What every handler is given, and the few things they all do: find by name, write and read back, page, watch.
// H1 Reads never wait. H2 A name that is not there is answered with the nearest one that is.
// H3 Writes of the API are creates (or compare-and-set of a model): repeating one finds it done.
import { canonicalJson } from "#kernel/base/bytes.ts";
import type { Clock } from "#kernel/base/clock.ts";
import { nearest } from "#kernel/base/nearest.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { derivedId, type IdKind, randomId } from "#kernel/domain/ids.ts";
import type { ModelState } from "#kernel/domain/state.ts";
import { KEYS } from "#kernel/domain/state.ts";
import { MeshError, type Violation } from "#kernel/fault/error.ts";
import type { FaultCode } from "#kernel/fault/table.ts";
import type { Blobs, EventLog, StateStore, Write } from "#kernel/store/ports.ts";
import type { TableName, Tables, World } from "../world/door.ts";

export type ApiDeps = {
  world: World;
  state: StateStore;
  /** Bucket mesh_drift and stream MESH_PANE: only read, for a backup. */
  drift: StateStore;
  panes: Pick<EventLog, "info">;
  blobs: Blobs;
  clock: Clock;
  rand: Rand;
  settings: { endpoint: string; dataFolder: string; version: string };
  /** Longest a leader's heartbeat may be away before it counts as gone. */
  leaseTtlMs: number;
};

/** Whoever calls, until identity comes. */
export const PRINCIPAL = "local";

/** The id that a request makes: the same request id gives the same id. */
export function requestedId({ rand }: ApiDeps, kind: IdKind, method: string, requestId: string): string {
  return requestId === "" ? randomId(kind, rand) : derivedId(kind, PRINCIPAL, method, requestId);
}

/** Writes all or nothing; true when written. What was written is in the world at once. */
export async function commit({ state, world }: ApiDeps, writes: readonly Write[]): Promise<boolean> {
  const result = await state.batch(writes);
  if (result.kind === "written") world.applyWritten(writes, result.revision);
  else if (result.kind === "stale") await refresh({ state, world }, result.key);
  return result.kind === "written";
}

/** Takes the newest value of a key into the world. */
async function refresh({ state, world }: Pick<ApiDeps, "state" | "world">, key: string): Promise<void> {
  const entry = await state.get(key);
  if (entry === undefined) world.delete(key, Number.MAX_SAFE_INTEGER);
  else world.put(entry, true);
}

export const sameContent = (a: unknown, b: unknown): boolean => canonicalJson(a) === canonicalJson(b);

/** The value at a key, asked of the store where the world has not seen it: another instance may just have written it. */
export async function read<K extends TableName>(deps: ApiDeps, table: K, key: string): Promise<Tables[K] | undefined> {
  const known = deps.world.get(table, key);
  if (known !== undefined) return known.value;
  await refresh(deps, key);
  return deps.world.get(table, key)?.value;
}

export async function modelOf(deps: ApiDeps, name: string): Promise<ModelState> {
  checkName("model", name);
  const model = await read(deps, "model", KEYS.model(name));
  if (model !== undefined) return model;
  const names = deps.world.all("model").map(({ value }) => value.description.name);
  throw notFound("DM-2001", `no model is called "${name}"`, name, names);
}

/** NOT_FOUND with the nearest name, and with all when they are few. */
export function notFound(code: FaultCode, sentence: string, name: string, known: readonly string[]): MeshError {
  const near = nearest(name, known);
  const some =
    known.length > 0 && known.length <= 10
      ? `; there ${known.length === 1 ? "is" : "are"} ${[...known].sort().join(", ")}`
      : "";
  return new MeshError(code, `${sentence}${near === "" ? "" : `; did you mean ${near}?`}${some}`);
}

/** Names become parts of keys: what could not be one is refused before anything is looked up. */
export function checkName(field: string, name: string): void {
  if (/^[A-Za-z0-9_-]{1,64}$/.test(name)) return;
  const description = name === "" ? "a name" : `letters, digits, - and _, at most 64; it is "${name.slice(0, 80)}"`;
  throw invalid([{ field, description }]);
}

export function invalid(violations: readonly Violation[], code: FaultCode = "DM-1002"): MeshError {
  const sentence = violations.map(({ field, description }) => `${field}: expected ${description}`).join("; ");
  return new MeshError(code, sentence, { violations });
}

// ---- pages

export type PageRequest = { pageSize: number; pageToken: string };

/** The next items in the order of their keys, and the token for those after them. */
export function pageOf<T>(
  items: readonly T[],
  keyOf: (item: T) => string,
  request: PageRequest,
  order: "up" | "down" = "up",
): { items: T[]; nextPageToken: string } {
  if (request.pageSize > 1_000)
    throw invalid([{ field: "page_size", description: `at most 1000; it is ${request.pageSize}` }]);
  const size = request.pageSize === 0 ? 100 : request.pageSize;
  const after = readToken(request.pageToken);
  const sign = order === "up" ? 1 : -1;
  const sorted = items
    .map((item) => ({ item, key: keyOf(item) }))
    .sort((a, b) => sign * (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const rest = after === undefined ? sorted : sorted.filter(({ key }) => (order === "up" ? key > after : key < after));
  const page = rest.slice(0, size);
  const last = page.at(-1);
  return {
    items: page.map(({ item }) => item),
    nextPageToken: last === undefined || rest.length <= size ? "" : writeToken(last.key),
  };
}

/** A key that sorts by time, then by id. */
export const byTime = ({ createdMs, id }: { createdMs: number; id: string }): string =>
  `${String(createdMs).padStart(15, "0")} ${id}`;

const TOKEN = "dm1:";
const writeToken = (key: string): string => Buffer.from(`${TOKEN}${key}`).toString("base64url");

function readToken(token: string): string | undefined {
  if (token === "") return undefined;
  const text = Buffer.from(token, "base64url").toString("utf8");
  if (!text.startsWith(TOKEN))
    throw new MeshError("DM-1003", `the page token "${token.slice(0, 40)}" is not one of ours`);
  return text.slice(TOKEN.length);
}

// ---- watches

/** What a watch shows now: `mark` tells when it differs from before, `ended` when nothing more will come. */
export type Seen<T> = { message: T; mark: string; ended: boolean };

/** The thing now, then each change (the newest only, for a slow reader), until it has ended or the caller leaves. */
export async function* watch<T>({ world }: ApiDeps, signal: AbortSignal, look: () => Seen<T>): AsyncGenerator<T> {
  let mark: string | undefined;
  while (!signal.aborted) {
    const { version } = world.changes.get();
    const seen = look();
    if (seen.mark !== mark) {
      mark = seen.mark;
      yield seen.message;
    }
    if (seen.ended) return;
    await world.changes.changed(version, signal);
  }
}

/** Waits until `done` holds or the time is up: for words to the leader that are carried out at once. */
export async function settled({ world, clock }: ApiDeps, done: () => boolean, withinMs: number): Promise<void> {
  const end = new AbortController();
  const late = clock.sleep(withinMs, end.signal).then(
    () => end.abort(),
    () => undefined,
  );
  while (!end.signal.aborted) {
    const { version } = world.changes.get();
    if (done()) end.abort();
    else await world.changes.changed(version, end.signal);
  }
  await late;
}
