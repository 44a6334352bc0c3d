/** Names that are nearly right. */

/** The known name that a misspelt one is closest to, if it is close: at most a third of it differs. */
export function nearest(key: string, known: readonly string[]): string | undefined {
  const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, "");
  const own = plain(key);
  if (own.length > 64) return undefined;
  const [best] = known.map((name) => ({ name, distance: edits(own, plain(name)) })).sort((a, b) => a.distance - b.distance);
  return best && best.distance <= own.length / 3 ? best.name : undefined;
}

/** Levenshtein's distance. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}
