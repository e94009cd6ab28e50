// The model for NATS is the store in memory: any sequence of writes has the same results on both, and leaves the same content.
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Rand, seededRand } from "../../base/rand.ts";
import { MemoryStateStore } from "../memory/state-store.ts";
import type { Guard, StateStore, Write, WriteResult } from "../ports.ts";
import { testServer, type TestServer } from "../testing/nats-fixture.ts";
import { bytes, textOf } from "../testing/wait.ts";
import type { NatsStores } from "./door.ts";

let server: TestServer;
let nats: NatsStores;
beforeAll(async () => {
  server = await testServer();
  nats = await server.open();
});
afterAll(async () => {
  await nats[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const KEYS = ["a", "b.c", "b.d", "term.leader"];

/** One step, as choices that mean the same on every store: a revision is "the newest", "the one before" or "none". */
type Choice = { key: string; kind: Write["kind"]; age: number; value: string };
type Step = { choices: Choice[]; guardAge: number | undefined };

function steps(rand: Rand, count: number): Step[] {
  const kinds = ["create", "update", "put", "delete"] as const;
  return Array.from({ length: count }, (_, i) => {
    const keys = KEYS.filter(() => rand.next() < 0.4);
    const choices = (keys.length === 0 ? ["a"] : keys).map((key) => ({
      key,
      kind: kinds[rand.below(4)] ?? "put",
      age: rand.next() < 0.75 ? 0 : 1,
      value: String(i),
    }));
    const guarded = rand.next() < 0.4 && !choices.some((choice) => choice.key === "term.leader");
    return { choices, guardAge: guarded ? (rand.next() < 0.7 ? 0 : 1) : undefined };
  });
}

/** Plays the steps on one store, with that store's own revisions; what it answered, and what is left. */
async function play(store: StateStore, plan: readonly Step[]): Promise<{ answers: string[]; left: string[] }> {
  const revisions = new Map<string, number[]>(KEYS.map((key) => [key, [0, 0]]));
  const answers: string[] = [];
  for (const step of plan) {
    const at = (key: string, age: number): number => revisions.get(key)?.at(-1 - age) ?? 0;
    const writes = step.choices.map((choice) => asWrite(choice, at(choice.key, choice.age)));
    const guard: Guard | undefined =
      step.guardAge === undefined ? undefined : { key: "term.leader", revision: at("term.leader", step.guardAge) };
    const result: WriteResult = await store.batch(writes, guard);
    answers.push(result.kind === "stale" ? `stale ${result.key}` : result.kind);
    if (result.kind !== "written") continue;
    for (const [i, write] of writes.entries())
      revisions.get(write.key)?.push(result.revision - (writes.length - 1 - i));
  }
  const left = (await store.list("")).map((entry) => `${entry.key}=${textOf(entry.value)}`);
  return { answers, left };
}

function asWrite(choice: Choice, revision: number): Write {
  const { key, kind } = choice;
  const value = bytes(choice.value);
  if (kind === "create" || kind === "put") return { kind, key, value };
  return kind === "delete" ? { kind, key, revision } : { kind, key, value, revision };
}

it.each([1, 2, 3])("answers a random history like the store in memory (seed %i)", async (seed) => {
  const plan = steps(seededRand(seed), 150);
  const store = nats.state(seed % 2 === 0 ? "mesh_drift" : "mesh_state");
  for (const entry of await store.list(""))
    await store.write({ kind: "delete", key: entry.key, revision: entry.revision });
  const model = await play(new MemoryStateStore(), plan);
  const real = await play(store, plan);
  expect(real).toEqual(model);
  expect(new Set(model.answers.map((answer) => answer.split(" ")[0]))).toEqual(new Set(["written", "stale", "fenced"]));
});
