// What our own checks look at: the tracked source files of the repository, as text.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

/** A file by its path from the root, and its text. */
export type Source = { path: string; text: string };

/** Tracked and new files that git does not ignore, generated code left out. */
export function sources(): Source[] {
  const listed = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
    cwd: ROOT,
    encoding: "utf8",
    maxBuffer: 64 << 20,
  });
  return listed
    .split("\n")
    .filter((path) => /\.(ts|md)$/.test(path) && !path.startsWith("proto/gen/") && existsSync(join(ROOT, path)))
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), "utf8") }));
}
