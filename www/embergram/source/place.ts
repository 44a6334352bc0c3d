/** Where the cache lies, and who is at it: OPFS and Web Locks. `node/place.ts` takes its place in the package for Node. */

/** Who limits the cache, as errors say it. */
export const LIMIT = "the browser grants this origin";

const ROOT = ["embergram", "models"];
const PROBE = "room";

/** The cache's folder in OPFS, where this context has it: not in insecure contexts, nor in some private windows. */
export async function root(create: boolean): Promise<FileSystemDirectoryHandle | undefined> {
  const storage = (globalThis as { navigator?: { storage?: Partial<StorageManager>; locks?: LockManager } }).navigator;
  if (storage?.storage?.getDirectory === undefined || storage.locks === undefined) return undefined;
  try {
    let directory = await navigator.storage.getDirectory();
    for (const name of ROOT) directory = await directory.getDirectoryHandle(name, { create });
    return directory;
  } catch {
    return undefined;
  }
}

/** A held lock. `lost` turns true when another context took it away, to delete the entry. */
export interface Held {
  readonly lost: boolean;
  release(): void;
}

/** Takes a lock; undefined where it is another's and `ifAvailable` asks not to wait. */
export async function lock(name: string, options: LockOptions): Promise<Held | undefined> {
  return new Promise((got, fail) => {
    let release = () => {};
    const held = { lost: false, release: () => release() };
    navigator.locks.request(name, options, async (granted) => {
      if (granted === null) return got(undefined);
      const released = new Promise<void>((done) => (release = done));
      got(held);
      await released;
    }).catch((error: unknown) => {
      held.lost = true;
      fail(error instanceof Error ? error : new Error(String(error)));
    });
  });
}

/** The names of the locks that are held, in all contexts. */
export async function heldNames(): Promise<string[]> {
  const { held = [] } = await navigator.locks.query();
  return held.flatMap(({ name }) => name ?? []);
}

/** Only dedicated workers have it, and it is in no DOM library. */
export interface WorkerFileHandle extends FileSystemFileHandle {
  createSyncAccessHandle?(): Promise<{
    truncate(size: number): void;
    write(bytes: Uint8Array, options: { at: number }): number;
    close(): void;
  }>;
}

/**
 * Whether this origin may store so many more bytes. A file of that length is made and removed: it holds no data, takes
 * milliseconds, and meets the limit that is enforced, while Chromium's `navigator.storage.estimate()` answers with an
 * invented one against fingerprinting.
 */
export async function hasRoom(bytes: number): Promise<boolean> {
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
