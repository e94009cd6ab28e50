// Subjects and their wildcards, as NATS has them: `*` is one token, `>` is one or more at the end.
import { refused } from "./check.ts";

const TOKEN = /^[A-Za-z0-9_$-]+$/;

/** Throws unless the subject is literal: dot-separated tokens of letters, digits, `_`, `-`, `$`. */
export function checkSubject(subject: string): void {
  if (subject.length > 256 || !subject.split(".").every((token) => TOKEN.test(token))) {
    throw refused(`subject ${JSON.stringify(subject)} is not dot-separated [A-Za-z0-9_-]+`);
  }
}

/** A test for one filter, compiled once; throws when the filter is malformed. */
export function subjectMatcher(filter: string): (subject: string) => boolean {
  const want = filter.split(".");
  for (const [i, token] of want.entries()) {
    const last = i === want.length - 1;
    if (!(TOKEN.test(token) || token === "*" || (token === ">" && last)))
      throw refused(`filter ${JSON.stringify(filter)} is malformed`);
  }
  if (filter === ">") return () => true;
  if (!filter.includes("*") && !filter.includes(">")) return (subject) => subject === filter;
  const open = want.at(-1) === ">";
  const fixed = open ? want.length - 1 : want.length;
  return (subject) => {
    const have = subject.split(".");
    if (open ? have.length <= fixed : have.length !== fixed) return false;
    for (let i = 0; i < fixed; i++) if (want[i] !== "*" && want[i] !== have[i]) return false;
    return true;
  };
}
