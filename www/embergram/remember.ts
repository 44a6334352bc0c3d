/** Small facts that outlive a page, kept in the Cache API, which windows and all workers have. Forgetting is no error. */
const CACHE = "embergram";

function address(key: string): string {
  return `https://embergram.invalid/${encodeURIComponent(key)}`;
}

export async function recall(key: string): Promise<string | undefined> {
  try {
    const found = await (await caches.open(CACHE)).match(address(key));
    return await found?.text();
  } catch {
    return undefined;
  }
}

export async function remember(key: string, value: string): Promise<void> {
  try {
    await (await caches.open(CACHE)).put(address(key), new Response(value));
  } catch {
    // No storage, no memory: the next load checks again.
  }
}
