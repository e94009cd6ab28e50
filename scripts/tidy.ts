// The habits a linter does not know: sizes, purpose sentences, doors to time, chance and the environment.
// T1 No file over 400 lines. T2 A folder of more than three source files begins with a README of at most ten lines.
// T3 Clocks, chance, timers and the environment are read in kernel/base and kernel/process only.
// T4 A source file begins with a comment that says what it owns.
import type { Problem } from "./layers.ts";
import type { Source } from "./sources.ts";

const CODE = /^(kernel|control-plane|sidecar|gateway|drift|agent|cli|examples|test|bench|scripts)\//;
const SERVICE = /^(kernel|control-plane|sidecar|gateway|drift|agent|cli)\//;
const DOORS = /^kernel\/(base|process)\//;
const TEST = /\.test\.ts$|\/testing\//;
const WORLD = [
  [/\bDate\.now\(/, "Date.now: take a Clock"],
  [/\bMath\.random\(/, "Math.random: take a Rand"],
  [/\b(setTimeout|setInterval)\(/, "a bare timer: take a Clock"],
  [/\bprocess\.env\b/, "process.env: take the environment as an argument"],
  [/\bperformance\.now\(/, "performance.now: take a Clock"],
] as const;

/** Everything that breaks a habit. */
export function tidyProblems(files: readonly Source[]): Problem[] {
  const code = files.filter((file) => file.path.endsWith(".ts") && CODE.test(file.path));
  return [...code.flatMap(fileProblems), ...folderProblems(files)];
}

function fileProblems(file: Source): Problem[] {
  const problems: Problem[] = [];
  const lines = file.text.split("\n");
  const length = file.text.endsWith("\n") ? lines.length - 1 : lines.length;
  if (length > 400) problems.push({ path: file.path, line: 400, says: `T1 ${length} lines: is it one thing?` });
  if (!TEST.test(file.path) && !/^(#!.*\n)?\/[/*]/.test(file.text) && !file.path.endsWith(".config.ts"))
    problems.push({ path: file.path, line: 1, says: "T4 does not begin by saying what it owns" });
  if (SERVICE.test(file.path) && !DOORS.test(file.path) && !TEST.test(file.path)) {
    lines.forEach((text, i) => {
      if (/^\s*(\/\/|\*)/.test(text)) return;
      for (const [pattern, says] of WORLD)
        if (pattern.test(text)) problems.push({ path: file.path, line: i + 1, says: `T3 ${says}` });
    });
  }
  return problems;
}

function folderProblems(files: readonly Source[]): Problem[] {
  const counts = new Map<string, number>();
  for (const { path } of files) {
    if (!CODE.test(path) || !path.endsWith(".ts") || path.endsWith(".test.ts")) continue;
    const folder = path.slice(0, path.lastIndexOf("/"));
    counts.set(folder, (counts.get(folder) ?? 0) + 1);
  }
  const readmes = new Map(files.filter((f) => f.path.endsWith("/README.md")).map((f) => [f.path, f.text]));
  return [...counts].flatMap(([folder, count]) => {
    if (count <= 3) return [];
    const path = `${folder}/README.md`;
    const text = readmes.get(path);
    if (text === undefined) return [{ path: folder, line: 1, says: "T2 has no README.md that says what it is" }];
    const length = text.trimEnd().split("\n").length;
    const long = length > 10 && !folder.startsWith("examples/");
    return long ? [{ path, line: length, says: `T2 ${length} lines: ten are enough` }] : [];
  });
}
