import { appendFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock, VirtualClock } from "../../base/clock.ts";
import { systemRand } from "../../base/rand.ts";
import { blobsContract } from "../testing/blobs.ts";
import { eventLogContract } from "../testing/event-log.ts";
import { bytes, Reader, textOf, until } from "../testing/wait.ts";
import type { LogEvent } from "../ports.ts";
import { FileBlobs } from "./blobs.ts";
import { type FileEventLog, type FileLogOptions, openFileLog } from "./event-log.ts";

let root: string;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "driftmesh-file-"));
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});
const folder = (): string => join(root, `f${folders++}`);
const logIn = (dir: string, more: Partial<FileLogOptions> = {}): Promise<FileEventLog> =>
  openFileLog({ dir, clock: systemClock, ...more });
const numbered = (i: number): Parameters<FileEventLog["publish"]>[0] => ({
  subject: "mesh.rec.1.2",
  payload: bytes(`p${i}`),
  id: `n${i}`,
});

eventLogContract("file", () => logIn(folder()));
blobsContract("file", () => Promise.resolve(new FileBlobs({ dir: folder(), rand: systemRand })));

async function segments(dir: string): Promise<string[]> {
  return (await readdir(dir)).filter((name) => name.endsWith(".log")).toSorted();
}

async function payloads(log: FileEventLog, count: number, fromSeq = 1): Promise<(string | undefined)[]> {
  const reader = new Reader<LogEvent>((signal) => log.read({ filter: ">", fromSeq }, signal));
  const events = await reader.take(count);
  await reader.stop();
  return events.map((event) => (event.kind === "message" ? textOf(event.message.payload) : event.kind));
}

describe("file log", () => {
  it("has everything that was acknowledged after a reopening, over many segments", async () => {
    const dir = folder();
    const log = await logIn(dir, { segmentBytes: 1_000 });
    for (let i = 1; i <= 100; i += 1) await log.publish(numbered(i));
    await log.close();
    expect((await segments(dir)).length).toBeGreaterThan(3);
    const again = await logIn(dir, { segmentBytes: 1_000 });
    expect(await payloads(again, 100)).toEqual(Array.from({ length: 100 }, (_, i) => `p${i + 1}`));
    expect(await again.publish(numbered(101))).toEqual({ seq: 101, duplicate: false });
    expect((await again.info()).createdMs).toBe((await log.info()).createdMs);
    await again.close();
  });

  it("remembers ids over a reopening, back into older segments", async () => {
    const dir = folder();
    const log = await logIn(dir, { segmentBytes: 500 });
    for (let i = 1; i <= 50; i += 1) await log.publish(numbered(i));
    await log.close();
    const again = await logIn(dir, { segmentBytes: 500 });
    expect(await again.publish(numbered(3))).toEqual({ seq: 3, duplicate: true });
    expect(await again.publish(numbered(50))).toEqual({ seq: 50, duplicate: true });
    await again.close();
  });

  it.each([
    ["half a record", async (path: string) => truncate(path, (await readFile(path)).byteLength - 3)],
    [
      "a changed byte",
      async (path: string) => {
        const content = await readFile(path);
        content[content.byteLength - 1] = (content.at(-1) ?? 0) ^ 1;
        await writeFile(path, content);
      },
    ],
  ])("cuts a tail that is %s and goes on at that sequence", async (_what, harm) => {
    const dir = folder();
    const log = await logIn(dir);
    for (let i = 1; i <= 5; i += 1) await log.publish(numbered(i));
    await log.close();
    await harm(join(dir, (await segments(dir))[0] ?? ""));
    const again = await logIn(dir);
    expect((await again.info()).lastSeq).toBe(4);
    expect(await again.publish(numbered(6))).toEqual({ seq: 5, duplicate: false });
    expect(await payloads(again, 5)).toEqual(["p1", "p2", "p3", "p4", "p6"]);
    await again.close();
  });

  it("cuts foreign bytes after the last record and keeps them beside", async () => {
    const dir = folder();
    const log = await logIn(dir);
    await log.publish(numbered(1));
    await log.close();
    const [name = ""] = await segments(dir);
    await appendFile(join(dir, name), Buffer.alloc(100));
    const again = await logIn(dir);
    expect(await payloads(again, 1)).toEqual(["p1"]);
    expect((await readFile(join(dir, `${name}.cut`))).byteLength).toBe(100);
    await again.close();
  });

  it("says so when a record in an older segment is damaged", async () => {
    const dir = folder();
    const log = await logIn(dir, { segmentBytes: 300 });
    for (let i = 1; i <= 30; i += 1) await log.publish(numbered(i));
    await log.close();
    const path = join(dir, (await segments(dir))[1] ?? "");
    const content = await readFile(path);
    content[20] = (content[20] ?? 0) ^ 0xff;
    await writeFile(path, content);
    const again = await logIn(dir, { segmentBytes: 300, idMemory: 1 });
    await expect(payloads(again, 30)).rejects.toThrow("damaged");
    await again.close();
  });

  it("tells a reader behind a trim what is gone", async () => {
    const log = await logIn(folder(), { segmentBytes: 300 });
    for (let i = 1; i <= 30; i += 1) await log.publish(numbered(i));
    await log.trimBefore(15);
    const { firstSeq } = await log.info();
    expect(firstSeq).toBeGreaterThan(1);
    expect(firstSeq).toBeLessThanOrEqual(15);
    const reader = new Reader<LogEvent>((signal) => log.read({ filter: ">", fromSeq: 1 }, signal));
    expect(await reader.take(2)).toMatchObject([
      { kind: "gap", wantedSeq: 1, firstSeq },
      { kind: "message", message: { seq: firstSeq } },
    ]);
    await reader.stop();
    await log.close();
  });

  it("keeps to its size by dropping the oldest files", async () => {
    const dir = folder();
    const log = await logIn(dir, { segmentBytes: 500, maxBytes: 2_000 });
    for (let i = 1; i <= 200; i += 1) await log.publish(numbered(i));
    expect((await segments(dir)).length).toBeLessThanOrEqual(5);
    expect((await log.info()).lastSeq).toBe(200);
    await log.close();
  });

  it("hands a reader what comes while it reads, over segment borders", async () => {
    const log = await logIn(folder(), { segmentBytes: 400 });
    const reader = new Reader<LogEvent>((signal) => log.read({ filter: ">", fromSeq: 1 }, signal));
    const taken = reader.take(200);
    await Promise.all(Array.from({ length: 200 }, (_, i) => log.publish(numbered(i))));
    expect((await taken).map((event) => (event.kind === "message" ? event.message.seq : 0))).toEqual(
      Array.from({ length: 200 }, (_, i) => i + 1),
    );
    await reader.stop();
    await log.close();
  });

  it("refuses a second opening of the same folder, and names the pid", async () => {
    const dir = folder();
    const log = await logIn(dir);
    await expect(logIn(dir)).rejects.toThrow(`pid ${process.pid}`);
    await log.close();
    await (await logIn(dir)).close();
  });

  it("stamps messages with the clock it was given", async () => {
    const clock = new VirtualClock(1_234_000);
    const log = await logIn(folder(), { clock });
    await log.publish(numbered(1));
    const reader = new Reader<LogEvent>((signal) => log.read({ filter: ">", fromSeq: 1 }, signal));
    expect(await reader.next()).toMatchObject({ message: { timeMs: 1_234_000 } });
    await reader.stop();
    await log.close();
  });
});

describe("file blobs", () => {
  it("refuses to answer with damaged content", async () => {
    const blobs = new FileBlobs({ dir: folder(), rand: systemRand });
    const sha256 = await blobs.put(bytes("a model"));
    await writeFile(blobs.pathOf(sha256), "a muddle");
    await expect(blobs.get(sha256)).rejects.toThrow("damaged");
  });

  it("leaves nothing but whole files behind", async () => {
    const dir = folder();
    const blobs = new FileBlobs({ dir, rand: systemRand });
    await Promise.all(Array.from({ length: 8 }, () => blobs.put(bytes("same"))));
    await until("only one file", async () => (await readdir(dir, { recursive: true })).length === 2);
  });
});
