import { isFolderFile } from "./folder.js";
import { knownFiles } from "./hub.js";
import { SPLIT, type NameOptions } from "./names.js";
import { Entry } from "./store.js";

/** One cached file; a split model has one for each part, a Hugging Face folder one for each of its files. */
export interface CachedModel {
  /** What `Llm.load` loads it by: the file's address, that of a split model's first part, or the folder's. */
  model: string;
  /** The address it was fetched from, without credentials and query. Two files may share it. */
  url: string;
  /** The cache's own name of the file. */
  key: string;
  /** Bytes stored. */
  bytes: number;
  /** Whether all of it is there: an incomplete one is gone on with at the next load. */
  complete: boolean;
  /** When a load last read or wrote it, in milliseconds since 1970. */
  lastUsed: number;
  /** Of the whole file in hex, once complete. */
  sha256?: string;
}

async function list(): Promise<CachedModel[]> {
  const found: CachedModel[] = [];
  for (const { key, meta, lastUsed } of await Entry.all()) {
    if (meta === undefined) continue;
    const bytes = meta.pieces.reduce((sum, piece) => sum + piece.size, 0);
    found.push({ model: modelOf(meta.url), url: meta.url, key, bytes, complete: meta.complete, lastUsed, ...(meta.sha256 === undefined ? {} : { sha256: meta.sha256 }) });
  }
  return found.sort((a, b) => b.lastUsed - a.lastUsed);
}

/** What a file is loaded by. */
function modelOf(url: string): string {
  const name = url.slice(url.lastIndexOf("/") + 1);
  if (isFolderFile(name)) return url.slice(0, -name.length);
  return url.replace(SPLIT, "-00001-of-$2$3");
}

/** See `modelCache`. */
export const keptModels = {
  /** What is there, last used first. */
  list,

  /**
   * Whether a model is there, under the name and options it is loaded by, and whole: a load fetches no weights then. No server
   * is asked: of a Hugging Face folder only the files that are here are known.
   */
  async has(model: string | URL, options: NameOptions = {}): Promise<boolean> {
    const keys = await Promise.all((await knownFiles(model, options)).map(({ key }) => Entry.keyOf(key)));
    const there = new Map((await Entry.all()).map(({ key, meta }) => [key, meta?.complete === true]));
    return keys.length > 0 && keys.every((key) => there.get(key) === true);
  },

  /**
   * Asks the browser to keep this origin's storage also when space is short; it may ask the user. True where nothing takes it away
   * unasked, as under Node.
   */
  async persist(): Promise<boolean> {
    const { storage } = (globalThis as { navigator?: { storage?: Partial<StorageManager> } }).navigator ?? {};
    return (await storage?.persist?.()) ?? !("document" in globalThis);
  },

  /**
   * Removes a model, under the name and options it is loaded by, all parts of it; or one file of the list. No server is
   * asked: a repository's name removes what is here of its models, of one with a tag those that the tag fits. A load that
   * runs goes on without the cache.
   * @returns whether there was one
   */
  async delete(model: string | URL | CachedModel, options: NameOptions = {}): Promise<boolean> {
    const named = typeof model === "string" || model instanceof URL;
    const keys = named ? await Promise.all((await knownFiles(model, options)).map(({ key }) => Entry.keyOf(key))) : [model.key];
    const there = (await Entry.all()).filter(({ key, meta }) => meta !== undefined && keys.includes(key));
    for (const { key } of there) await Entry.remove(key);
    return there.length > 0;
  },

  /** Removes all models. */
  async clear(): Promise<void> {
    for (const { key } of await Entry.all()) await Entry.remove(key);
  },

  /** Bytes stored in all. */
  async size(): Promise<number> {
    return (await list()).reduce((sum, { bytes }) => sum + bytes, 0);
  },
};
