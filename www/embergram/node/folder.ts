/** Folders and files with the face of OPFS, as far as the cache uses it. */
import { randomUUID } from "node:crypto";
import { openAsBlob } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";

interface Create {
  create?: boolean;
}

/** A folder, see `FileSystemDirectoryHandle`. */
export class Folder {
  readonly kind = "directory";
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async getDirectoryHandle(name: string, { create = false }: Create = {}): Promise<Folder> {
    const path = join(this.#path, name);
    if (create) await mkdir(path, { recursive: true });
    else await stat(path);
    return new Folder(path);
  }

  async getFileHandle(name: string): Promise<DiskFile> {
    return new DiskFile(join(this.#path, name));
  }

  async *entries(): AsyncGenerator<[name: string, handle: Folder | DiskFile]> {
    for (const entry of await readdir(this.#path, { withFileTypes: true })) {
      const path = join(this.#path, entry.name);
      yield [entry.name, entry.isDirectory() ? new Folder(path) : new DiskFile(path)];
    }
  }

  async *keys(): AsyncGenerator<string> {
    yield* await readdir(this.#path);
  }

  async removeEntry(name: string, { recursive = false } = {}): Promise<void> {
    await rm(join(this.#path, name), { recursive, force: true });
  }
}

/** A file, see `FileSystemFileHandle`. */
export class DiskFile {
  readonly kind = "file";
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  getFile(): Promise<Blob> {
    return openAsBlob(this.#path);
  }

  /** Writes beside it, and takes its place at `close`, at once or not at all. */
  async createWritable() {
    const beside = `${this.#path}.${randomUUID()}.part`;
    const file = await open(beside, "w");
    return {
      write: (data: string | Uint8Array) => asQuota(file.writeFile(data)),
      close: async () => {
        await file.close();
        await rename(beside, this.#path);
      },
      abort: async () => {
        await file.close();
        await rm(beside, { force: true });
      },
    };
  }
}

/** A full disk as a page hears of full storage. */
async function asQuota(writing: Promise<void>): Promise<void> {
  try {
    await writing;
  } catch (error) {
    if (!["ENOSPC", "EDQUOT"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    throw new DOMException("the disk is full", "QuotaExceededError");
  }
}
