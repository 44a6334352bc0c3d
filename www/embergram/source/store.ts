import { hex, type Identity } from "./http.js";
import type { RemoteFile } from "./names.js";
import { heldNames, lock, root, type Held, type WorkerFileHandle } from "./place.js";
import { shown } from "./secrets.js";

/** Bytes of a full piece. Also the most that a reader gets at once. */
export const PIECE_BYTES = 4 << 20;

/** A run of bytes of the file, in an OPFS file of its own named by its number. */
export interface Piece {
  size: number;
  sha256: string;
}

/** What is known of a cached file; `meta.json` in its folder. Only pieces listed here count. */
export interface Meta extends Identity {
  /** Where it came from, without what may be secret. */
  url: string;
  /** Of the whole file, once complete. */
  sha256?: string;
  complete: boolean;
  pieces: Piece[];
}

const META = "meta.json";
const USED = "used";

/** One file in the cache. Who reads or writes holds `use()`, who writes holds `lock()` as well. */
export class Entry {
  private constructor(readonly url: string, readonly key: string) {}

  /** The place of a file, whether something lies there or not; undefined where there is no OPFS. */
  static async of({ url, key }: Pick<RemoteFile, "url" | "key">): Promise<Entry | undefined> {
    return (await root(true)) === undefined ? undefined : new Entry(shown(url), await Entry.keyOf(key));
  }

  /** The name of the folder: a hash, since what tells files apart may be secret. */
  static async keyOf(key: RemoteFile["key"]): Promise<string> {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key));
    return hex(new Uint8Array(digest)).slice(0, 40);
  }

  /** All that lie there. */
  static async all(): Promise<{ key: string; meta: Meta | undefined; lastUsed: number }[]> {
    const directory = await root(false);
    const found = [];
    for await (const [key, handle] of directory?.entries() ?? []) {
      if (handle.kind !== "directory") continue;
      const folder = handle as FileSystemDirectoryHandle;
      const used = await text(folder, USED);
      found.push({ key, meta: await readMeta(folder), lastUsed: Number(used ?? 0) });
    }
    return found;
  }

  /** Removes a folder, whoever writes there: the writer loses its lock and goes on without the cache. */
  static async remove(key: string): Promise<void> {
    const held = await lock(lockName(key), { steal: true });
    try {
      await removeFolder(key);
    } finally {
      held?.release();
    }
  }

  /** Removes a folder to make room; false where a load, here or in another tab, is at it. */
  static async evict(key: string): Promise<boolean> {
    const held = await lock(useName(key), { ifAvailable: true });
    if (held === undefined) return false;
    try {
      await Entry.remove(key);
      return true;
    } catch {
      return false;
    } finally {
      held.release();
    }
  }

  /** The folders that loads are at, in all contexts. */
  static async used(): Promise<ReadonlySet<string>> {
    const held = await heldNames();
    return new Set(held.flatMap((name) => (name.startsWith(USE) ? [name.slice(USE.length)] : [])));
  }

  private async folder(create = false): Promise<FileSystemDirectoryHandle | undefined> {
    try {
      return await (await root(create))?.getDirectoryHandle(this.key, { create });
    } catch {
      return undefined;
    }
  }

  async meta(): Promise<Meta | undefined> {
    const folder = await this.folder();
    return folder && (await readMeta(folder));
  }

  /** A piece, if it is what was written. */
  async read(index: number, piece: Piece): Promise<Uint8Array<ArrayBuffer> | undefined> {
    try {
      const file = await (await (await this.folder())?.getFileHandle(String(index)))?.getFile();
      if (file?.size !== piece.size) return undefined;
      const bytes = new Uint8Array(await file.arrayBuffer());
      return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))) === piece.sha256 ? bytes : undefined;
    } catch {
      return undefined;
    }
  }

  /** Keeps it from being evicted. */
  async use(): Promise<Held | undefined> {
    return lock(useName(this.key), { mode: "shared" });
  }

  /** The right to write, or undefined while another load, here or in another tab, has it. */
  async lock(): Promise<Held | undefined> {
    return lock(lockName(this.key), { ifAvailable: true });
  }

  /** Notes the time for `lastUsed`. */
  async touch(): Promise<void> {
    const folder = await this.folder();
    if (folder) await writeText(folder, USED, String(Date.now())).catch(() => {});
  }

  async write(index: number, bytes: Uint8Array<ArrayBuffer>): Promise<Piece> {
    const folder = await this.folder(true);
    const digest = crypto.subtle.digest("SHA-256", bytes);
    const handle = await folder?.getFileHandle(String(index), { create: true });
    if (handle === undefined) throw new Error("the cache has no folder");
    await writeFile(handle, bytes);
    return { size: bytes.length, sha256: hex(new Uint8Array(await digest)) };
  }

  async writeMeta(meta: Meta): Promise<void> {
    const folder = await this.folder(true);
    if (folder) await writeText(folder, META, JSON.stringify(meta));
  }

  /** Removes what lies after so many pieces. For the holder of the lock. */
  async trim(pieces: number): Promise<void> {
    const folder = await this.folder();
    for await (const name of folder?.keys() ?? []) {
      if (Number(name) >= pieces) await folder?.removeEntry(name).catch(() => {});
    }
  }

  /** Removes all. For the holder of the lock. */
  async clear(): Promise<void> {
    await removeFolder(this.key);
  }
}

const USE = "embergram:use:";
const lockName = (key: string) => `embergram:${key}`;
const useName = (key: string) => `${USE}${key}`;

async function removeFolder(key: string): Promise<void> {
  const directory = await root(false);
  // A write that another context has not closed yet holds its file for a moment.
  for (let left = 20; ; left--) {
    try {
      return await directory?.removeEntry(key, { recursive: true });
    } catch (error) {
      if ((error as DOMException).name === "NotFoundError") return;
      if (left === 0) throw error;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

async function readMeta(folder: FileSystemDirectoryHandle): Promise<Meta | undefined> {
  try {
    const meta = JSON.parse((await text(folder, META)) ?? "") as Partial<Meta>;
    const whole = typeof meta.url === "string" && typeof meta.complete === "boolean" && Array.isArray(meta.pieces) &&
      meta.pieces.every((p: Partial<Piece>) => Number.isSafeInteger(p?.size) && typeof p.sha256 === "string");
    return whole ? (meta as Meta) : undefined;
  } catch {
    return undefined;
  }
}

async function text(folder: FileSystemDirectoryHandle, name: string): Promise<string | undefined> {
  try {
    return await (await (await folder.getFileHandle(name)).getFile()).text();
  } catch {
    return undefined;
  }
}

async function writeText(folder: FileSystemDirectoryHandle, name: string, value: string): Promise<void> {
  // createWritable replaces a file at once or not at all, which is what a small file that must not tear needs.
  const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
  await stream.write(value);
  await stream.close();
}

async function writeFile(handle: FileSystemFileHandle, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  // Two to three times faster than createWritable.
  const access = await (handle as WorkerFileHandle).createSyncAccessHandle?.();
  if (access === undefined) {
    const stream = await handle.createWritable();
    try {
      await stream.write(bytes);
    } catch (error) {
      await stream.abort().catch(() => {});
      throw error;
    }
    return stream.close();
  }
  try {
    access.truncate(0);
    if (access.write(bytes, { at: 0 }) !== bytes.length) throw new DOMException("short write", "QuotaExceededError");
  } finally {
    access.close();
  }
}
