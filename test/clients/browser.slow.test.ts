import { cp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT } from "../kit/mesh.ts";
import { CHROMIUM, startChromium } from "./browser/chromium.ts";
import { expectHeard } from "./conversation.ts";
import { cached, HERE, lacking, must, PROTO, skipped, type Stage, startStage } from "./stage.ts";

const lacks = await lacking(CHROMIUM, "npm");
const SOURCE = join(HERE, "browser");

describe.skipIf(lacks !== undefined)(skipped("Chromium", lacks), () => {
  let stage: Stage;
  let program: string;
  let browser: Awaited<ReturnType<typeof startChromium>>;
  beforeAll(async () => {
    program = await bundle();
    [stage, browser] = await Promise.all([startStage(), startChromium()]);
  }, 300_000);
  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]();
    await stage?.[Symbol.asyncDispose]();
  }, 60_000);

  test.each(["gRPC-Web", "Connect", "Connect JSON"])("a page of the mesh's own origin speaks %s", async (protocol) => {
    const page = await browser.open(stage.url, program);
    const call = [protocol, stage.url, stage.deployment].map((word) => JSON.stringify(word)).join();
    expectHeard(JSON.parse(await page(`converse(${call})`)), ["streamed", "acknowledged"]);
  });

  test("a page of another origin is not let in", async () => {
    const page = await browser.open("about:blank", program);
    for (const protocol of ["gRPC-Web", "Connect JSON"])
      expect(await page(`refusedCode(${JSON.stringify(protocol)}, ${JSON.stringify(stage.url)})`)).not.toBe("");
  });
});

/** The program and the libraries it imports as one script. */
async function bundle(): Promise<string> {
  const names = ["package.json", "package-lock.json", "rolldown.config.mjs", "client.mjs"];
  const files = names.map((name) => join(SOURCE, name));
  const folder = await cached("browser", files, async (to) => {
    await cp(SOURCE, to, { recursive: true });
    await must(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps"], { cwd: to });
  });
  const rolldown = [process.execPath, join(ROOT, "node_modules/.bin/rolldown"), "--config", "rolldown.config.mjs"];
  await must(rolldown, { cwd: folder, env: { PROTO_GEN: join(PROTO, "gen") } });
  return readFile(join(folder, "bundle.js"), "utf8");
}
