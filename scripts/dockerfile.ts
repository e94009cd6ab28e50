// A lint for our Dockerfiles: what a reviewer would say. K1 Bases are pinned to a full version. K2 The last user is not root.
// K3 Entry points are in exec form. K4 What is copied exists. K5 npm runs locked and without scripts.
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Problem } from "./layers.ts";
import { ROOT, type Source } from "./sources.ts";

/** All that breaks a rule in one Dockerfile. */
export function dockerfileProblems({ path, text }: Source): Problem[] {
  const stages = new Set<string>();
  const problems: Problem[] = [];
  let user = "root";
  text.split("\n").forEach((line, i) => {
    const say = (says: string): void => void problems.push({ path, line: i + 1, says });
    const [instruction = "", ...words] = line.trim().split(/\s+/);
    const rest = words.join(" ");
    if (instruction === "FROM") {
      const [base = "", , stage] = words;
      if (!stages.has(base) && !/:\d+\.\d+\.\d+/.test(base)) say(`K1 ${base} is not pinned to a full version`);
      if (!stages.has(base)) user = "root";
      if (stage !== undefined) stages.add(stage);
    }
    if (instruction === "USER") user = rest;
    if (instruction === "ENTRYPOINT" || instruction === "CMD") {
      if (!rest.startsWith("[")) say(`K3 ${instruction} is not in exec form`);
      if (user === "root") say("K2 runs as root");
    }
    if (instruction === "COPY" && !rest.startsWith("--from"))
      for (const source of words.slice(0, -1)) if (!existsSync(join(ROOT, source))) say(`K4 ${source} does not exist`);
    if (/npm (install|i)\b/.test(rest)) say("K5 npm install is not locked: npm ci");
    if (/npm ci/.test(rest) && !rest.includes("--ignore-scripts")) say("K5 npm ci runs scripts of strangers");
  });
  return problems;
}
