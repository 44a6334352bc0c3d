import { EmbergramError } from "../error.js";
import { shown } from "./secrets.js";
import { Entry, root, type WorkerFileHandle } from "./store.js";

const PROBE = "room";

/**
 * Makes sure that this origin may store so many more bytes. Where there is too little room, the least recently used files
 * go, but none that a load is at, and none for what would not fit even then.
 * @param keep files to keep besides
 */
export async function makeRoom(bytes: number, keep: readonly Entry[] = []): Promise<boolean> {
  if (await hasRoom(bytes)) return true;
  const used = await Entry.used();
  const others = (await Entry.all())
    .filter(({ key }) => !used.has(key) && !keep.some((entry) => entry.key === key))
    .sort((a, b) => a.lastUsed - b.lastUsed);
  const most = others.flatMap(({ meta }) => meta?.pieces ?? []).reduce((sum, piece) => sum + piece.size, 0);
  if (!(await hasRoom(Math.max(0, bytes - most)))) return false;
  for (const { key } of others) if ((await Entry.evict(key)) && (await hasRoom(bytes))) return true;
  return false;
}

/**
 * See {@link makeRoom}.
 * @throws EmbergramError `quota`
 */
export async function checkQuota(url: URL, bytes: number, keep: readonly Entry[] = []): Promise<void> {
  if (await makeRoom(bytes, keep)) return;
  throw new EmbergramError(
    "quota",
    `${shown(url)} needs ${(bytes / 1e6).toFixed(1)} MB of storage, more than the browser grants this origin, even without cached models that are not in use. Free disk space, or load with cache: false.`,
  );
}

/**
 * Whether this origin may store so many more bytes. A file of that length is made and removed: it holds no data, takes
 * milliseconds, and meets the limit that is enforced, while Chromium's `navigator.storage.estimate()` answers with an
 * invented one against fingerprinting.
 */
async function hasRoom(bytes: number): Promise<boolean> {
  const directory = await root(true);
  try {
    const handle = await directory?.getFileHandle(PROBE, { create: true });
    if (handle) await reserve(handle, bytes);
    return true;
  } catch (error) {
    return (error as Partial<DOMException>).name !== "QuotaExceededError";
  } finally {
    await directory?.removeEntry(PROBE).catch(() => {});
  }
}

async function reserve(handle: FileSystemFileHandle, bytes: number): Promise<void> {
  const access = await (handle as WorkerFileHandle).createSyncAccessHandle?.();
  if (access !== undefined) {
    try {
      return access.truncate(bytes);
    } finally {
      access.close();
    }
  }
  const stream = await handle.createWritable();
  try {
    await stream.truncate(bytes);
  } finally {
    await stream.abort().catch(() => {});
  }
}

