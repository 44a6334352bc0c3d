import type { Remote } from "./http.js";
import type { Held } from "./place.js";
import { makeRoom } from "./room.js";
import { PIECE_BYTES, type Entry, type Meta, type Piece } from "./store.js";

/**
 * Appends a download to a cache entry, piece by piece, one write at a time beside the download. A storage that fails
 * ends the caching, not the load: `active` says so.
 */
export class CacheWriter {
  private readonly meta: Meta;
  private buffer = new Uint8Array(PIECE_BYTES);
  private filled = 0;
  private pending: Promise<void> = Promise.resolve();
  private failed = false;

  /** @param meta the entry as it lies there, whose pieces end where the download starts */
  constructor(
    private readonly entry: Entry, private readonly held: Held,
    meta: Omit<Meta, "complete" | "pieces"> & { pieces: readonly Piece[] },
  ) {
    this.meta = { ...meta, pieces: [...meta.pieces], complete: false };
  }

  get active(): boolean {
    return !this.failed && !this.held.lost;
  }

  /** Writes no more: what came is not worth keeping. */
  abandon(): void {
    this.failed = true;
  }

  /** What the server says of the file that the next bytes come from. */
  describe({ etag, lastModified, size }: Remote): void {
    delete this.meta.sha256;
    if (etag !== undefined) this.meta.etag = etag;
    if (lastModified !== undefined) this.meta.lastModified = lastModified;
    if (size !== undefined) this.meta.size = size;
  }

  async push(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length && this.active; ) {
      const part = chunk.subarray(at, at + PIECE_BYTES - this.filled);
      this.buffer.set(part, this.filled);
      this.filled += part.length;
      at += part.length;
      if (this.filled === PIECE_BYTES) await this.cut();
    }
  }

  /** Writes what is left of the last piece, so that a later load goes on from here. */
  async flush(): Promise<void> {
    if (this.filled > 0 && this.active) await this.cut();
    await this.pending;
  }

  /** The file is whole and verified. */
  async finish(size: number, sha256: string): Promise<void> {
    await this.flush();
    await this.attempt(async () => {
      Object.assign(this.meta, { size, sha256, complete: true });
      await this.entry.writeMeta(this.meta);
    });
  }

  private async cut(): Promise<void> {
    await this.pending;
    const bytes = this.buffer.subarray(0, this.filled);
    this.buffer = new Uint8Array(PIECE_BYTES);
    this.filled = 0;
    this.pending = this.attempt(async () => {
      this.meta.pieces.push(await this.store(bytes));
      if (!this.active) return;
      await this.entry.writeMeta(this.meta);
      await this.entry.touch();
    });
  }

  private async store(bytes: Uint8Array<ArrayBuffer>): Promise<Piece> {
    const write = () => this.entry.write(this.meta.pieces.length, bytes);
    try {
      return await write();
    } catch (error) {
      // Where no length was told, nobody could look ahead.
      if (!isQuota(error) || !(await makeRoom(bytes.length))) throw error;
      return write();
    }
  }

  private async attempt(work: () => Promise<void>): Promise<void> {
    if (!this.active) return;
    try {
      await work();
    } catch (error) {
      this.failed = true;
      // The room is needed by others then, and half a model would never become a whole one.
      if (isQuota(error)) await this.entry.clear().catch(() => {});
    }
  }
}

const isQuota = (error: unknown) => (error as Partial<DOMException>).name === "QuotaExceededError";
