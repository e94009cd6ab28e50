// "Did you mean": known words that are few edits away.

/** The known word with the fewest edits, or "" when none is near. */
export const nearest = (word: string, known: readonly string[]): string => nearestWords(word, known)[0] ?? "";

/** At most three known words, nearest first: at most a third of the word's letters and three edits away, whatever the case. */
export function nearestWords(word: string, known: readonly string[]): string[] {
  const most = Math.min(3, Math.max(1, Math.floor(word.length / 3)));
  return [...new Set(known)]
    .map((candidate) => ({ candidate, edits: editsBetween(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter(({ edits }) => edits <= most)
    .sort((a, b) => a.edits - b.edits)
    .slice(0, 3)
    .map(({ candidate }) => candidate);
}

/** Inserts, deletes, replacements and swaps of neighbours between two words. */
function editsBetween(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let edits = Math.min((row[j - 1] ?? 0) + 1, (above[j] ?? 0) + 1, (above[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        edits = Math.min(edits, (before[j - 2] ?? 0) + 1);
      row.push(edits);
    }
    [before, above] = [above, row];
  }
  return above[b.length] ?? 0;
}
