// One leader of a role at a time, by compare-and-set on `lease.<role>` and `term.<role>` of a StateStore.
// L1 The store never expires a lease. A candidate takes over when the lease's revision has not changed for TTL + margin on the candidate's own
//    monotonic clock: nothing here compares two machines' clocks, and a store that was away does not make every lease lapse at once.
// L2 A takeover writes lease and term in one batch, so `term.<role>` changes exactly at takeovers and its revision fences the leader's writes.
// L3 A leader counts from the instant *before* its last successful renewal: TTL - margin later it is invalid, whatever the store does.
// L4 Lost is final: the same process may campaign again and gets a higher term.
import { base32, canonicalJson } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import type { Rand } from "../base/rand.ts";
import type { Entry, Leadership, StateStore } from "./ports.ts";

export type LeaseDeps = {
  store: StateStore;
  clock: Clock;
  rand: Rand;
  /** Who stands in the lease, for people to read. */
  holder: string;
  /** 15 s by default: a replicated store's leader change has stopped writes for 6 s (measured). */
  ttlMs?: number;
};

type Lease = { holder: string; term: number; ttlMs: number };
type Held = { term: number; leaseRevision: number; termRevision: number; sinceMs: number };

/** Waits until this process leads `role`. The signal ends the wait, not the leadership: that ends by `release` or by being lost. */
export async function campaign(deps: LeaseDeps, role: string, signal: AbortSignal): Promise<Leadership> {
  const { store, clock } = deps;
  const ttlMs = deps.ttlMs ?? 15_000;
  const me = `${deps.holder}/${base32(deps.rand.bytes(10))}`;
  let seen: { revision: number; sinceMs: number } | undefined;
  let triedMs = clock.monotonicMs();
  // Jitter keeps candidates from meeting at every turn.
  const pauseMs = (): number => (ttlMs / 15) * (0.75 + deps.rand.next() / 2);
  for (;;) {
    signal.throwIfAborted();
    const read = await readBoth(store, role, signal);
    if (read === undefined) {
      await clock.sleep(pauseMs(), signal);
      continue;
    }
    const { lease, term } = read;
    const owner = lease === undefined ? undefined : parseLease(lease.value);
    if (lease !== undefined && term !== undefined && owner?.holder === me) {
      // A takeover whose answer was lost was ours after all.
      const held = { term: owner.term, leaseRevision: lease.revision, termRevision: term.revision, sinceMs: triedMs };
      return new Leader(deps, role, me, ttlMs, held);
    }
    const nowMs = clock.monotonicMs();
    if (lease !== undefined && seen?.revision !== lease.revision) seen = { revision: lease.revision, sinceMs: nowMs };
    const free = lease === undefined || owner === undefined || owner.holder === "";
    if (free || (seen !== undefined && nowMs - seen.sinceMs >= ttlMs + marginOf(ttlMs))) {
      triedMs = clock.monotonicMs();
      const held = await takeOver(store, role, { holder: me, ttlMs }, lease, term, triedMs);
      if (held !== undefined) return new Leader(deps, role, me, ttlMs, held);
    }
    await clock.sleep(pauseMs(), signal);
  }
}

/** What drifting clocks and a slow step between check and write may cost. */
function marginOf(ttlMs: number): number {
  return ttlMs / 10;
}

/** Both keys, or undefined while the store does not answer: a candidate waits, however long that takes. */
async function readBoth(
  store: StateStore,
  role: string,
  signal: AbortSignal,
): Promise<{ lease: Entry | undefined; term: Entry | undefined } | undefined> {
  try {
    const [lease, term] = await Promise.all([store.get(`lease.${role}`, signal), store.get(`term.${role}`, signal)]);
    return { lease, term };
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

async function takeOver(
  store: StateStore,
  role: string,
  claim: { holder: string; ttlMs: number },
  lease: Entry | undefined,
  term: Entry | undefined,
  sinceMs: number,
): Promise<Held | undefined> {
  const next = (term === undefined ? 0 : parseTerm(term.value)) + 1;
  const write = (key: string, value: object, old: Entry | undefined): Parameters<StateStore["batch"]>[0][number] => {
    const bytes = new TextEncoder().encode(canonicalJson(value));
    return old === undefined
      ? { kind: "create", key, value: bytes }
      : { kind: "update", key, value: bytes, revision: old.revision };
  };
  const result = await store
    .batch([
      write(`lease.${role}`, { ...claim, term: next }, lease),
      write(`term.${role}`, { term: next, holder: claim.holder }, term),
    ])
    .catch(() => undefined);
  if (result?.kind !== "written") return undefined;
  return { term: next, leaseRevision: result.revision - 1, termRevision: result.revision, sinceMs };
}

class Leader implements Leadership {
  readonly term: number;
  readonly guard: { key: string; revision: number };
  readonly lost: AbortSignal;
  readonly #deps: LeaseDeps;
  readonly #key: string;
  readonly #me: string;
  readonly #ttlMs: number;
  readonly #end = new AbortController();
  #leaseRevision: number;
  #validUntilMs: number;
  #renewing: Promise<void>;

  constructor(deps: LeaseDeps, role: string, me: string, ttlMs: number, held: Held) {
    this.#deps = deps;
    this.#key = `lease.${role}`;
    this.#me = me;
    this.#ttlMs = ttlMs;
    this.term = held.term;
    this.guard = { key: `term.${role}`, revision: held.termRevision };
    this.lost = this.#end.signal;
    this.#leaseRevision = held.leaseRevision;
    this.#validUntilMs = held.sinceMs + ttlMs - marginOf(ttlMs);
    this.#renewing = this.#renew();
    void this.#fence();
  }

  valid(): boolean {
    return !this.lost.aborted && this.#deps.clock.monotonicMs() < this.#validUntilMs;
  }

  async release(): Promise<void> {
    const held = this.valid();
    this.#end.abort(new DOMException("released", "AbortError"));
    // A renewal under way may hang for as long as the store does; its outcome is not worth waiting for.
    const settled = new AbortController();
    const hung = this.#deps.clock.sleep(this.#ttlMs / 3, settled.signal).then(
      () => true,
      () => false,
    );
    const gaveUp = await Promise.race([this.#renewing.then(() => false), hung]);
    settled.abort();
    if (!held || gaveUp) return;
    // Best effort: without it the next leader waits for the lease to lapse.
    const released = { holder: "", term: this.term, ttlMs: this.#ttlMs };
    await this.#write(released).catch(() => undefined);
  }

  async #renew(): Promise<void> {
    const { clock } = this.#deps;
    while (!this.lost.aborted) {
      await clock.sleep(this.#ttlMs / 3, this.lost).catch(() => undefined);
      if (this.lost.aborted) return;
      const startMs = clock.monotonicMs();
      const renewed = await this.#renewOnce().catch(() => "unknown" as const);
      if (renewed === "theirs") return this.#lose("another process took the lease");
      if (renewed === "ours") this.#validUntilMs = startMs + this.#ttlMs - marginOf(this.#ttlMs);
    }
  }

  /** A stale answer may be our own earlier renewal whose answer was lost: the leader's value tells. */
  async #renewOnce(): Promise<"ours" | "theirs"> {
    const result = await this.#write({ holder: this.#me, term: this.term, ttlMs: this.#ttlMs });
    if (result.kind === "written") {
      this.#leaseRevision = result.revision;
      return "ours";
    }
    const entry = await this.#deps.store.get(this.#key);
    const lease = entry === undefined ? undefined : parseLease(entry.value);
    if (entry === undefined || lease?.holder !== this.#me || lease.term !== this.term) return "theirs";
    this.#leaseRevision = entry.revision;
    return "ours";
  }

  #write(lease: Lease): ReturnType<StateStore["write"]> {
    const value = new TextEncoder().encode(canonicalJson(lease));
    return this.#deps.store.write({ kind: "update", key: this.#key, value, revision: this.#leaseRevision });
  }

  /** Ends the leadership at the instant it may have lapsed (L3), even while a renewal hangs. */
  async #fence(): Promise<void> {
    const { clock } = this.#deps;
    while (!this.lost.aborted) {
      const leftMs = this.#validUntilMs - clock.monotonicMs();
      if (leftMs <= 0) return this.#lose("the lease was not renewed in time");
      await clock.sleep(leftMs, this.lost).catch(() => undefined);
    }
  }

  #lose(why: string): void {
    if (!this.lost.aborted) this.#end.abort(new Error(why));
  }
}

function parseLease(value: Uint8Array): Lease | undefined {
  const parsed: unknown = JSON.parse(new TextDecoder().decode(value));
  if (typeof parsed !== "object" || parsed === null) return undefined;
  if (!("holder" in parsed) || !("term" in parsed) || !("ttlMs" in parsed)) return undefined;
  const { holder, term, ttlMs } = parsed;
  return typeof holder === "string" && typeof term === "number" && typeof ttlMs === "number"
    ? { holder, term, ttlMs }
    : undefined;
}

function parseTerm(value: Uint8Array): number {
  const parsed: unknown = JSON.parse(new TextDecoder().decode(value));
  const term = typeof parsed === "object" && parsed !== null && "term" in parsed ? parsed.term : 0;
  return typeof term === "number" ? term : 0;
}
