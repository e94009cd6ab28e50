// Makes everything that is generated: code from proto/, docs from the tables. `--check` only says what is stale.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { descriptionPage, errorsPage } from "./docs.ts";
import { run } from "./run.ts";
import { ROOT } from "./sources.ts";

const check = process.argv.includes("--check");
const folder = check ? mkdtempSync(join(tmpdir(), "driftmesh-gen-")) : join(ROOT, "proto/gen");
if (!check) rmSync(folder, { recursive: true, force: true });

const template = JSON.stringify({
  version: "v2",
  plugins: [{ local: "protoc-gen-es", out: folder, opt: ["target=ts", "import_extension=ts", "erasable_syntax=true"] }],
});
const code = await run("buf generate", ["buf", "generate", "--template", template]);
const image = await run("buf build", ["buf", "build", "-o", join(folder, "descriptors.binpb")]);
for (const ended of [code, image]) if (ended.code !== 0) fail(`${ended.name}: ${ended.output}`);

const pages = new Map([
  ["docs/errors.md", errorsPage()],
  ["docs/description.md", descriptionPage()],
]);
if (check) {
  const stale = differences(folder, join(ROOT, "proto/gen"));
  for (const [path, page] of pages) if (textOf(join(ROOT, path)) !== page) stale.push(path);
  rmSync(folder, { recursive: true });
  if (stale.length > 0) fail(`stale, run \`npm run gen\`: ${stale.join(", ")}`);
} else {
  for (const [path, page] of pages) writeFileSync(join(ROOT, path), page);
}

function textOf(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

function differences(fresh: string, kept: string): string[] {
  const list = (base: string): string[] =>
    readdirSync(base, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(base, join(entry.parentPath, entry.name)));
  const names = new Set([...list(fresh), ...list(kept)]);
  return [...names].filter((name) => !same(join(fresh, name), join(kept, name)));
}

function same(a: string, b: string): boolean {
  try {
    return readFileSync(a).equals(readFileSync(b));
  } catch {
    return false;
  }
}

function fail(says: string): never {
  process.stderr.write(`${says}\n`);
  process.exit(1);
}
