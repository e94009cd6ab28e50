// Credentials that stop being right while a connection stands: told clearly, and over as soon as they are right again.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { BareServer } from "../testing/bare-server.ts";
import { clock, rand } from "../testing/nats-fixture.ts";
import { bytes, Reader, until } from "../testing/wait.ts";
import type { Publication, WatchEvent } from "../ports.ts";
import { type NatsCredentials, type NatsStores, openNats } from "./door.ts";

let server: BareServer;
/** What our side shows at its next dial. */
let shown: NatsCredentials;
let nats: NatsStores;

async function password(word: string): Promise<void> {
  await server.configure([
    `jetstream { store_dir: ${JSON.stringify(join(server.dir, "store"))}, sync_interval: always, max_file_store: 100GB }`,
    `authorization { users: [{ user: "mesh", password: ${JSON.stringify(word)} }] }`,
  ]);
}

beforeEach(async () => {
  server = await BareServer.make();
  await mkdir(join(server.dir, "store"));
  await password("first");
  await server.start();
  shown = { user: "mesh", password: "first" };
  nats = await openNats({ url: server.url, credentials: () => shown, name: "test", clock, rand, storageGib: 1 });
});
afterEach(async () => {
  await nats[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const event = (i: number): Publication => ({ subject: "mesh.event.k.m", payload: bytes(String(i)), id: `n${i}` });

const reread = (): Promise<void> => server.reload();
const restart = async (): Promise<void> => {
  await server.end("SIGTERM");
  await server.start();
};

describe.each([
  ["read again", reread],
  ["started again", restart],
])("a server %s with another password", (_how, apply) => {
  it("is named as what refuses us, and everything goes on when the password is the old one again", async () => {
    const log = nats.log("MESH_EVENT");
    const store = nats.state("mesh_state");
    const watcher = new Reader<WatchEvent>((signal) => store.watch("", signal));
    await watcher.until((item) => item.kind === "synced");
    await log.publish(event(0));
    await password("second");
    await apply();
    await until("the connection is refused", () => nats.refusal !== undefined);
    const refused = log.publish(event(1), clock.deadline(300));
    await expect(refused).rejects.toMatchObject({
      fault: "DM-6012",
      message: expect.stringMatching(/refuses our cred/),
    });
    // Far more refusals than after which the client, left alone, closes for good.
    const waiting = [log.publish(event(1)), log.publish(event(2))];
    const write = store.write({ kind: "create", key: "k", value: bytes("1") });
    const { version } = nats.status.get();
    await until("it was refused again and again", async () => (await refusals()) >= 5);
    expect(nats.status.get().version).toBe(version);
    await password("first");
    await apply();
    const rightMs = clock.monotonicMs();
    expect((await Promise.all(waiting)).map(({ seq }) => seq).toSorted((a, b) => a - b)).toEqual([2, 3]);
    expect((await write).kind).toBe("written");
    await watcher.until((item) => item.kind === "put" && item.entry.key === "k");
    process.stdout.write(`credentials right again: works after ${Math.round(clock.monotonicMs() - rightMs)} ms\n`);
    expect(nats.refusal).toBeUndefined();
    await watcher.stop();
  });
});

it("takes a password that was changed for good from the function that was given, without a restart", async () => {
  const log = nats.log("MESH_EVENT");
  await log.publish(event(0));
  await password("second");
  await server.reload();
  await until("the connection is refused", () => nats.refusal !== undefined);
  shown = { user: "mesh", password: "second" };
  expect((await log.publish(event(1))).seq).toBe(2);
});

it("refuses to start with a wrong password at once, with its code", async () => {
  const credentials = { user: "mesh", password: "wrong" };
  const stranger = openNats({ url: server.url, credentials, name: "stranger", clock, rand });
  await expect(stranger).rejects.toMatchObject({ fault: "DM-6012", message: expect.stringContaining(server.url) });
});

/** How often the server has refused somebody. */
async function refusals(): Promise<number> {
  return (await server.log()).filter((line) => line.includes("authentication error")).length;
}
