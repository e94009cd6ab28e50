import { afterAll, beforeAll, expect, it } from "vitest";
import { blobsContract } from "../testing/blobs.ts";
import { eventLogContract } from "../testing/event-log.ts";
import { clock, rand, testServer, type TestServer } from "../testing/nats-fixture.ts";
import { stateStoreContract } from "../testing/state-store.ts";
import { JetStreamApi } from "./api.ts";
import { assets } from "./assets.ts";
import { NatsBlobs } from "./blobs.ts";
import { ensure } from "./bootstrap.ts";
import { NatsEventLog } from "./event-log.ts";
import type { FollowDeps } from "./follow.ts";
import { type Link, openLink } from "./link.ts";
import { NatsStateStore } from "./state-store.ts";

let server: TestServer;
let link: Link;
let deps: FollowDeps;

beforeAll(async () => {
  server = await testServer();
  const { url, credentials } = server.server();
  link = await openLink({ url, credentials, name: "contract", clock, rand });
  deps = { link, clock, rand, api: new JetStreamApi({ link, clock, rand }) };
});
afterAll(async () => {
  await link.close();
  await server[Symbol.asyncDispose]();
});

/** Streams anew, so that every test begins with nothing. */
async function fresh(): Promise<FollowDeps> {
  for (const asset of assets(1, 1)) await deps.api.call(`STREAM.DELETE.${asset.name}`);
  await ensure(deps.api, assets(1, 1));
  return deps;
}

stateStoreContract("NATS", async () => new NatsStateStore(await fresh(), "mesh_state"));
eventLogContract("NATS", async () => new NatsEventLog(await fresh(), "MESH_EVENT", ["mesh.event.>"]));
blobsContract("NATS", async () => new NatsBlobs(await fresh()));

it("refuses a stream that exists with other settings, and names them", async () => {
  await fresh();
  await deps.api.call("STREAM.DELETE.MESH_EVENT");
  await deps.api.call("STREAM.CREATE.MESH_EVENT", {
    name: "MESH_EVENT",
    subjects: ["mesh.event.>"],
    storage: "memory",
    retention: "limits",
  });
  await expect(ensure(deps.api, assets(1, 1))).rejects.toThrow(
    /MESH_EVENT exists with other settings.*storage is "memory", wanted "file"/,
  );
});

it("finds everything in place at a second start", async () => {
  await fresh();
  await using first = await server.open();
  await using second = await server.open();
  expect((await first.state("mesh_state").write({ kind: "create", key: "a", value: new Uint8Array(1) })).kind).toBe(
    "written",
  );
  expect((await second.state("mesh_state").get("a"))?.revision).toBe(1);
});
