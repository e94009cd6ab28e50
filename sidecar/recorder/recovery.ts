// What a dead process of this replica left in its write-ahead files: sent again under its own boot, then finished and deleted.
// V1 Messages keep their ids, so what had arrived is stored once. V2 Rows that no pane covers are counted into one more pane, numbered next.
// V3 The files go when everything in them is acknowledged; dying here and starting again does the same.
import { unlinkSync } from "node:fs";
import type { Profile } from "#kernel/domain/profile.ts";
import { PaneFold } from "./fold.ts";
import { Publisher, type PublisherDeps, type Sendable } from "./publisher.ts";
import { sliceBlock } from "./rows.ts";
import { leftovers, outgoingOf, type Leftover } from "./spool.ts";
import { paneMessage, readRecord, type Outgoing } from "./wire.ts";

export type RecoveryOptions = {
  folder: string;
  boot: number;
  strict: boolean;
  /** The profile that a dead boot counted in; undefined when it is not to be had: then its rows get no pane. */
  profileOf: (sha256: string) => Promise<Pick<Profile, "features" | "score"> | undefined>;
  recovered: (news: { boot: number; messages: number; rows: number }) => void;
};

export async function recover(options: RecoveryOptions, deps: PublisherDeps, signal: AbortSignal): Promise<void> {
  for (const leftover of leftovers(options.folder, options.boot)) {
    const profile = await options.profileOf(leftover.head.profileSha256);
    const source = new ListSource(messagesOf(leftover, profile, options.strict));
    const publisher = new Publisher(deps, source, signal);
    publisher.pump();
    await Promise.race([source.done, aborted(signal)]);
    if (signal.aborted) return;
    for (const path of leftover.paths) unlinkSync(path);
    options.recovered({ boot: leftover.boot, messages: source.messages, rows: leftover.head.coveredUpTo });
  }
}

function* messagesOf(
  leftover: Leftover,
  profile: Pick<Profile, "features" | "score"> | undefined,
  strict: boolean,
): Generator<Outgoing> {
  const { head } = leftover;
  const fold = profile === undefined ? undefined : new PaneFold({ ...head, strict, profile });
  const kinds = profile?.features.map(({ kind }) => kind) ?? [];
  let uncovered = 0;
  for (const entry of leftover.entries()) {
    yield outgoingOf(head, entry);
    if (fold === undefined || entry.kind === "pane" || entry.lastRow <= head.coveredUpTo) continue;
    const { rows } = readRecord(entry.payload, kinds);
    const from = Math.max(0, head.coveredUpTo + 1 - rows.first);
    const part = sliceBlock(rows, from, rows.scores.length);
    fold.gapUpTo(part.first);
    fold.add(part, 0);
    uncovered += part.scores.length;
  }
  if (fold !== undefined && uncovered > 0) yield paneMessage(fold.flush(0, true));
}

/** Messages one after the other, and a word when all are acknowledged. */
class ListSource {
  messages = 0;
  readonly #messages: Iterator<Outgoing>;
  readonly #done = Promise.withResolvers<void>();
  #open = 0;
  #ended = false;

  constructor(messages: Iterator<Outgoing>) {
    this.#messages = messages;
  }

  get done(): Promise<void> {
    return this.#done.promise;
  }

  next(): Sendable | undefined {
    if (this.#ended) return undefined;
    const step = this.#messages.next();
    if (step.done === true) {
      this.#ended = true;
      this.#settle();
      return undefined;
    }
    this.messages += 1;
    this.#open += 1;
    const { payload, ...rest } = step.value;
    return { ...rest, payload: () => payload };
  }

  acknowledge(): void {
    this.#open -= 1;
    this.#settle();
  }

  #settle(): void {
    if (this.#ended && this.#open === 0) this.#done.resolve();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener("abort", () => resolve(), { once: true });
  return promise;
}
