/** Small facts that outlive a page, kept in the Cache API, which windows and all workers have. Forgetting is no error. */
const CACHE = "embergram";
/** Milliseconds after which a fact is forgotten. */
const LONGEST = 7 * 24 * 3600 * 1000;

interface Fact {
  value: string;
  /** Milliseconds since 1970. */
  time: number;
}

function address(key: string): string {
  return `https://embergram.invalid/${encodeURIComponent(key)}`;
}

export async function recall(key: string): Promise<string | undefined> {
  try {
    const found = await (await caches.open(CACHE)).match(address(key));
    const { value, time } = (await found?.json()) as Fact;
    // A clock that was set back makes no fact last longer.
    return Math.abs(Date.now() - time) < LONGEST ? value : undefined;
  } catch {
    return undefined;
  }
}

export async function remember(key: string, value: string): Promise<void> {
  try {
    await (await caches.open(CACHE)).put(address(key), Response.json({ value, time: Date.now() } satisfies Fact));
  } catch {
    // No storage, no memory: the next load checks again.
  }
}

export async function forget(key: string): Promise<void> {
  try {
    await (await caches.open(CACHE)).delete(address(key));
  } catch {
    // Nothing was remembered.
  }
}
