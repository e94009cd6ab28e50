// What every StateStore promises (ports.ts), as tests that each implementation runs.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MAX_VALUE_BYTES } from "../check.ts";
import type { Entry, StateStore, WatchEvent, Write } from "../ports.ts";
import { bytes, Reader, textOf } from "./wait.ts";

/** `open` gives an empty store each time. */
export function stateStoreContract(name: string, open: () => Promise<StateStore>): void {
  describe(`StateStore contract: ${name}`, () => {
    let store: StateStore;
    beforeEach(async () => {
      store = await open();
    });
    afterEach(async () => {
      await store.close();
    });
    oneKey(() => store);
    manyKeys(() => store);
    watching(() => store);
  });
}

const create = (key: string, text = key): Write => ({ kind: "create", key, value: bytes(text) });
const put = (key: string, text = key): Write => ({ kind: "put", key, value: bytes(text) });

async function written(store: StateStore, write: Write): Promise<number> {
  const result = await store.write(write);
  if (result.kind !== "written") throw new Error(`${write.kind} ${write.key} was ${result.kind}`);
  return result.revision;
}

function oneKey(store: () => StateStore): void {
  it("gives back what was written, with its revision", async () => {
    const revision = await written(store(), create("model.a", "one"));
    const entry = await store().get("model.a");
    expect(textOf(entry?.value)).toBe("one");
    expect(entry?.revision).toBe(revision);
  });

  it("knows nothing of a key that was never written", async () => {
    expect(await store().get("model.nobody")).toBeUndefined();
  });

  it("creates a key once", async () => {
    await written(store(), create("model.a", "first"));
    expect(await store().write(create("model.a", "second"))).toEqual({ kind: "stale", key: "model.a" });
    expect(textOf((await store().get("model.a"))?.value)).toBe("first");
  });

  it("updates only from the revision it names", async () => {
    const first = await written(store(), create("k"));
    const second = await written(store(), { kind: "update", key: "k", value: bytes("new"), revision: first });
    expect(second).toBeGreaterThan(first);
    expect(await store().write({ kind: "update", key: "k", value: bytes("late"), revision: first })).toEqual({
      kind: "stale",
      key: "k",
    });
    expect(textOf((await store().get("k"))?.value)).toBe("new");
  });

  it("lets exactly one of many writers through that name the same revision", async () => {
    const revision = await written(store(), create("k"));
    const update = (i: number): Write => ({ kind: "update", key: "k", value: bytes(`w${i}`), revision });
    const results = await Promise.all(Array.from({ length: 20 }, (_, i) => store().write(update(i))));
    expect(results.filter((result) => result.kind === "written")).toHaveLength(1);
    expect(results.filter((result) => result.kind === "stale")).toHaveLength(19);
  });

  it("deletes only from the revision it names, and the key can be created again", async () => {
    const revision = await written(store(), create("k", "one"));
    expect(await store().write({ kind: "delete", key: "k", revision: revision + 5 })).toEqual({
      kind: "stale",
      key: "k",
    });
    await written(store(), { kind: "delete", key: "k", revision });
    expect(await store().get("k")).toBeUndefined();
    expect(await store().write({ kind: "update", key: "k", value: bytes("x"), revision })).toEqual({
      kind: "stale",
      key: "k",
    });
    await written(store(), create("k", "two"));
    expect(textOf((await store().get("k"))?.value)).toBe("two");
  });

  it("takes the revision of a delete as that of the key's last write, and revision 0 as nobody's", async () => {
    const first = await written(store(), create("k"));
    const gone = await written(store(), { kind: "delete", key: "k", revision: first });
    expect(await store().write({ kind: "update", key: "k", value: bytes("x"), revision: 0 })).toEqual({
      kind: "stale",
      key: "k",
    });
    await written(store(), { kind: "update", key: "k", value: bytes("back"), revision: gone });
    expect(textOf((await store().get("k"))?.value)).toBe("back");
    expect(await store().write({ kind: "update", key: "none", value: bytes("x"), revision: 0 })).toEqual({
      kind: "stale",
      key: "none",
    });
    expect(await store().write(put("x"), { key: "none", revision: 0 })).toEqual({ kind: "fenced" });
  });

  it("keeps a value of any bytes up to 64 KiB, and refuses more", async () => {
    const value = Uint8Array.from({ length: MAX_VALUE_BYTES }, (_, i) => (i * 7) & 255);
    await written(store(), { kind: "put", key: "large", value });
    expect(Buffer.compare((await store().get("large"))?.value ?? bytes(""), value)).toBe(0);
    await expect(
      store().write({ kind: "put", key: "larger", value: new Uint8Array(MAX_VALUE_BYTES + 1) }),
    ).rejects.toThrow("larger");
    await written(store(), { kind: "put", key: "empty", value: bytes("") });
    expect((await store().get("empty"))?.value.byteLength).toBe(0);
  });

  it("refuses keys that are not tokens", async () => {
    for (const key of ["", ".", "a..b", "a b", "a.*", "a.>", "a.", "ä"]) {
      await expect(async () => store().get(key)).rejects.toThrow("key");
    }
  });
}

function manyKeys(store: () => StateStore): void {
  it("lists what begins with a prefix, in order of keys, without what was deleted", async () => {
    for (const key of ["dep.b.spec", "dep.a.spec", "deploy", "model.x", "dep.c.spec"])
      await written(store(), create(key));
    await written(store(), {
      kind: "delete",
      key: "dep.b.spec",
      revision: (await store().get("dep.b.spec"))?.revision ?? 0,
    });
    const keys = async (prefix: string): Promise<string[]> =>
      (await store().list(prefix)).map((entry: Entry) => entry.key);
    expect(await keys("dep.")).toEqual(["dep.a.spec", "dep.c.spec"]);
    expect(await keys("dep")).toEqual(["dep.a.spec", "dep.c.spec", "deploy"]);
    expect(await keys("")).toEqual(["dep.a.spec", "dep.c.spec", "deploy", "model.x"]);
    expect(await keys("nothing.")).toEqual([]);
  });

  it("writes a batch whole, with consecutive revisions", async () => {
    const result = await store().batch([create("a"), put("b"), create("c")]);
    if (result.kind !== "written") throw new Error(result.kind);
    const revisions = (await store().list("")).map((entry) => entry.revision);
    expect(revisions).toEqual([result.revision - 2, result.revision - 1, result.revision]);
  });

  it("writes nothing of a batch with one stale write, and names it", async () => {
    await written(store(), create("b", "old"));
    expect(await store().batch([create("a"), create("b"), create("c")])).toEqual({ kind: "stale", key: "b" });
    expect((await store().list("")).map((entry) => [entry.key, textOf(entry.value)])).toEqual([["b", "old"]]);
  });

  it("creates a deleted key again inside a batch", async () => {
    const revision = await written(store(), create("a"));
    await written(store(), { kind: "delete", key: "a", revision });
    expect((await store().batch([create("z"), create("a", "again")])).kind).toBe("written");
    expect(textOf((await store().get("a"))?.value)).toBe("again");
  });

  it("writes under a guard while the guard's key stands, and nothing after", async () => {
    const guard = { key: "term.leader", revision: await written(store(), create("term.leader", "1")) };
    const a = await store().write(create("a"), guard);
    expect(a.kind).toBe("written");
    expect((await store().batch([put("b"), create("c")], guard)).kind).toBe("written");
    expect(await store().write(create("a"), guard)).toEqual({ kind: "stale", key: "a" });
    await written(store(), put("term.leader", "2"));
    expect(await store().write(put("a", "zombie"), guard)).toEqual({ kind: "fenced" });
    expect(await store().write(create("d"), guard)).toEqual({ kind: "fenced" });
    expect(await store().batch([create("e"), create("f")], guard)).toEqual({ kind: "fenced" });
    expect((await store().list("")).map((entry) => [entry.key, textOf(entry.value)])).toEqual([
      ["a", "a"],
      ["b", "b"],
      ["c", "c"],
      ["term.leader", "2"],
    ]);
  });

  it("is fenced by a guard whose key does not exist", async () => {
    expect(await store().write(put("a"), { key: "term.leader", revision: 1 })).toEqual({ kind: "fenced" });
  });

  it("refuses an empty batch, one of more than 1,000 writes, and one that writes a key twice", async () => {
    await expect(store().batch([])).rejects.toThrow("between 1 and 1000");
    await expect(store().batch(Array.from({ length: 1001 }, (_, i) => put(`k${i}`)))).rejects.toThrow(
      "between 1 and 1000",
    );
    await expect(store().batch([put("a"), put("a")])).rejects.toThrow("twice");
  });

  it("takes a batch of 1,000", async () => {
    expect((await store().batch(Array.from({ length: 1000 }, (_, i) => create(`k${i}`)))).kind).toBe("written");
    expect(await store().list("k")).toHaveLength(1000);
  });
}

function watching(store: () => StateStore): void {
  const watch = (prefix: string): Reader<WatchEvent> => new Reader((signal) => store().watch(prefix, signal));

  it("delivers what exists, says synced, then delivers changes", async () => {
    await written(store(), create("a.1"));
    await written(store(), create("b.1"));
    const gone = await written(store(), create("a.2"));
    await written(store(), { kind: "delete", key: "a.2", revision: gone });
    const reader = watch("a.");
    expect((await reader.take(2)).map(show)).toEqual(["put a.1=a.1", "synced"]);
    const revision = await written(store(), put("a.3", "x"));
    await written(store(), put("b.2"));
    await written(store(), { kind: "delete", key: "a.3", revision });
    expect((await reader.until((event) => event.kind === "delete")).map(show).at(-1)).toBe("delete a.3");
    await reader.stop();
  });

  it("says synced at once on an empty prefix", async () => {
    await written(store(), create("other"));
    const reader = watch("nothing.");
    expect(show(await reader.next())).toBe("synced");
    await reader.stop();
  });

  it("ends when its signal aborts", async () => {
    const reader = watch("");
    expect(show(await reader.next())).toBe("synced");
    const end = expect(reader.next()).rejects.toThrow("ended");
    await reader.stop();
    await end;
  });

  it("brings a watcher that reads late to the newest value of every key", async () => {
    const reader = watch("");
    expect(show(await reader.next())).toBe("synced");
    for (let i = 0; i < 50; i += 1) await written(store(), put(`k${i % 3}`, String(i)));
    const seen = new Map<string, string>();
    await reader.until((event) => {
      if (event.kind === "put") seen.set(event.entry.key, textOf(event.entry.value) ?? "");
      return seen.get("k0") === "48" && seen.get("k1") === "49" && seen.get("k2") === "47";
    });
    await reader.stop();
  });

  it("lists the whole store as it was between two batches, never inside one", async () => {
    let writing = true;
    const batch = (turn: number): Write[] => Array.from({ length: 100 }, (_, i) => put(`k${i}`, String(turn)));
    const writer = (async () => {
      for (let turn = 0; writing; turn += 1) await store().batch(batch(turn));
    })();
    for (let i = 0; i < 40; i += 1) {
      const listed = await store().list("");
      expect(new Set(listed.map(({ value }) => textOf(value))).size).toBeLessThanOrEqual(1);
      expect([0, 100]).toContain(listed.length);
    }
    writing = false;
    await writer;
  });

  it("never shows the store's own keys", async () => {
    const guard = { key: "term.leader", revision: await written(store(), create("term.leader")) };
    expect((await store().write(create("a"), guard)).kind).toBe("written");
    const reader = watch("");
    expect((await reader.take(3)).map(show)).toEqual(["put term.leader=term.leader", "put a=a", "synced"]);
    await reader.stop();
  });
}

function show(event: WatchEvent): string {
  if (event.kind === "put") return `put ${event.entry.key}=${textOf(event.entry.value)}`;
  return event.kind === "delete" ? `delete ${event.key}` : event.kind;
}
