// What every EventLog promises (ports.ts), as tests that each implementation runs.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { EventLog, LogEvent } from "../ports.ts";
import { bytes, Reader, textOf } from "./wait.ts";

/** `open` gives an empty log each time that takes `mesh.event.*.*`. */
export function eventLogContract(name: string, open: () => Promise<EventLog>): void {
  describe(`EventLog contract: ${name}`, () => {
    let log: EventLog;
    beforeEach(async () => {
      log = await open();
    });
    afterEach(async () => {
      await log.close();
    });
    publishing(() => log);
    reading(() => log);
  });
}

const event = (id: string, model = "m", kind = "k"): Parameters<EventLog["publish"]>[0] => ({
  subject: `mesh.event.${kind}.${model}`,
  payload: bytes(id),
  id,
});

function publishing(log: () => EventLog): void {
  it("numbers what it stores from 1 without holes", async () => {
    for (let i = 1; i <= 5; i += 1) expect(await log().publish(event(`e${i}`))).toEqual({ seq: i, duplicate: false });
    expect(await log().info()).toMatchObject({ firstSeq: 1, lastSeq: 5 });
  });

  it("stores an id once and answers a repeat with the first sequence", async () => {
    const first = await log().publish(event("same"));
    await log().publish(event("other"));
    expect(await log().publish(event("same"))).toEqual({ seq: first.seq, duplicate: true });
    expect((await log().info()).lastSeq).toBe(2);
  });

  it("stores an id once however many publish it at the same time", async () => {
    const results = await Promise.all(Array.from({ length: 20 }, () => log().publish(event("same"))));
    expect(new Set(results.map((result) => result.seq)).size).toBe(1);
    expect(results.filter((result) => !result.duplicate)).toHaveLength(1);
  });

  it("takes many at the same time", async () => {
    const results = await Promise.all(Array.from({ length: 1000 }, (_, i) => log().publish(event(`e${i}`))));
    expect(new Set(results.map((result) => result.seq)).size).toBe(1000);
  });

  it("knows the first and last sequence of a filter", async () => {
    for (const [i, model] of ["a", "b", "a", "c"].entries()) await log().publish(event(`e${i}`, model));
    expect(await log().info("mesh.event.*.a")).toMatchObject({ firstSeq: 1, lastSeq: 3 });
    expect(await log().info("mesh.event.k.b")).toMatchObject({ firstSeq: 2, lastSeq: 2 });
    expect(await log().info("mesh.event.*.nobody")).toMatchObject({ firstSeq: 1, lastSeq: 0 });
  });

  it("is empty at first", async () => {
    expect(await log().info()).toMatchObject({ firstSeq: 1, lastSeq: 0 });
  });

  it("refuses subjects that are not literal, and payloads above the limit", async () => {
    await expect(log().publish({ ...event("e"), subject: "mesh.event.*.m" })).rejects.toThrow("subject");
    await expect(log().publish({ ...event("e"), payload: new Uint8Array(1024 * 1024) })).rejects.toThrow("bytes");
  });

  it("rejects at once when the caller's signal has aborted", async () => {
    await expect(log().publish(event("e"), AbortSignal.abort(new Error("stop")))).rejects.toThrow();
    expect((await log().info()).lastSeq).toBe(0);
  });
}

function reading(log: () => EventLog): void {
  const read = (fromSeq: number, filter = ">"): Reader<LogEvent> =>
    new Reader((signal) => log().read({ filter, fromSeq }, signal));

  it("hands out what is there and what comes, in order, as it was published", async () => {
    await log().publish({ ...event("e1"), headers: { Kind: "first" } });
    const reader = read(1);
    const first = await reader.next();
    expect(first).toMatchObject({
      kind: "message",
      message: { seq: 1, subject: "mesh.event.k.m", headers: { Kind: "first" } },
    });
    await log().publish(event("e2"));
    expect(show(await reader.next())).toBe("2 e2");
    await reader.stop();
  });

  it("begins at the sequence asked for, inclusive", async () => {
    for (let i = 1; i <= 5; i += 1) await log().publish(event(`e${i}`));
    const reader = read(4);
    expect((await reader.take(2)).map(show)).toEqual(["4 e4", "5 e5"]);
    await reader.stop();
  });

  it("waits at the end when asked for the next sequence", async () => {
    await log().publish(event("e1"));
    const reader = read(2);
    const next = reader.next();
    await log().publish(event("e2"));
    expect(show(await next)).toBe("2 e2");
    await reader.stop();
  });

  it("hands out only what the filter matches", async () => {
    for (const [i, model] of ["a", "b", "a", "c", "b", "a"].entries()) await log().publish(event(`e${i}`, model));
    const literal = read(1, "mesh.event.k.a");
    expect((await literal.take(3)).map(show)).toEqual(["1 e0", "3 e2", "6 e5"]);
    const wild = read(2, "mesh.event.*.b");
    expect((await wild.take(2)).map(show)).toEqual(["2 e1", "5 e4"]);
    await literal.stop();
    await wild.stop();
  });

  it("serves readers independently of each other", async () => {
    const count = 300;
    const readers = [read(1), read(1), read(1)];
    const taken = readers.map((reader) => reader.take(count));
    await Promise.all(Array.from({ length: count }, (_, i) => log().publish(event(`e${i}`))));
    for (const events of await Promise.all(taken)) {
      expect(events.map((item) => (item.kind === "message" ? item.message.seq : 0))).toEqual(
        Array.from({ length: count }, (_, i) => i + 1),
      );
    }
    for (const reader of readers) await reader.stop();
  });

  it("says resync when asked for a sequence that was never given out, and starts again", async () => {
    await log().publish(event("e1"));
    const reader = read(10);
    expect((await reader.take(2)).map(show)).toEqual(["resync", "1 e1"]);
    await reader.stop();
  });

  it("ends when its signal aborts", async () => {
    const reader = read(1);
    const end = expect(reader.next()).rejects.toThrow("ended");
    await reader.stop();
    await end;
  });
}

function show(item: LogEvent): string {
  return item.kind === "message" ? `${item.message.seq} ${textOf(item.message.payload)}` : item.kind;
}
