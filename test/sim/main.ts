// `npm run sim -- --seed 42` prints one history; `--seeds 200 [--from 1]` runs many and prints what is broken.
import { parseArgs } from "node:util";
import { simulate, type SimResult } from "./simulation.ts";
import { linesOf } from "./trace.ts";

const { values } = parseArgs({
  options: { seed: { type: "string" }, seeds: { type: "string" }, from: { type: "string", default: "1" } },
});

if (values.seeds === undefined) await one(Number(values.seed ?? 42));
else await many(Number(values.from), Number(values.seeds));

async function one(seed: number): Promise<void> {
  const result = await simulate({
    seed,
    heard: (stamped) =>
      process.stdout.write(
        linesOf(stamped)
          .map((line) => `${line}\n`)
          .join(""),
      ),
  });
  report(result);
}

async function many(from: number, count: number): Promise<void> {
  let failed = 0;
  for (let seed = from; seed < from + count; seed += 1) {
    const result = await simulate({ seed });
    if (result.broken.length > 0) failed += 1;
    report(result);
  }
  process.stdout.write(`${count} seeds, ${failed} broken\n`);
}

function report({ seed, broken, steps, virtualMs, digest, counts }: SimResult): void {
  const figures = Object.entries(counts)
    .map(([name, n]) => `${n} ${name}`)
    .join(", ");
  process.stdout.write(
    `seed ${seed}: ${Math.round(virtualMs / 1000)} s, ${steps} steps, ${figures}, history ${digest.slice(0, 12)}\n`,
  );
  for (const { checker, atMs, says } of broken.slice(0, 20))
    process.stdout.write(`  BROKEN ${checker} at ${(atMs / 1000).toFixed(3)} s: ${says}\n`);
  if (broken.length > 0) process.exitCode = 1;
}
