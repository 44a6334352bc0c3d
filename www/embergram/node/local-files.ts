/** Models on the disk, by path. */
import { createReadStream, openAsBlob } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { EmbergramError } from "../error.js";
import { SPLIT, type ModelInput, type NameOptions } from "../source/names.js";

/** Bytes of a read. */
const CHUNK = 1 << 20;

/**
 * The files that a path or a `file:` address names: one, all parts of a split GGUF that lie beside it, or a folder's. Undefined
 * for what names no path.
 * @throws EmbergramError `invalid_config` for what cannot be read
 */
export async function localFiles(input: ModelInput, options: NameOptions): Promise<readonly Blob[] | undefined> {
  const path = pathOf(input as string | URL, options);
  if (path === undefined) return undefined;
  try {
    const folder = (await stat(path)).isDirectory() ? path : undefined;
    const files = folder !== undefined ? await filesIn(folder) : await partsOf(path);
    return await Promise.all(files.map((file) => openFile(file, folder)));
  } catch (cause) {
    throw new EmbergramError("invalid_config", `model: ${path} cannot be read (${(cause as Error).message}); give the path of a GGUF file or of a model's folder`, { cause });
  }
}

function pathOf(input: string | URL, { baseUrl }: NameOptions): string | undefined {
  const text = String(input);
  if (/^file:/i.test(text)) return fileURLToPath(text);
  if (/^(?:hf|https?|data|blob):/i.test(text)) return undefined;
  if (baseUrl === undefined) return resolve(text);
  const url = new URL(text, baseUrl);
  return url.protocol === "file:" ? fileURLToPath(url) : undefined;
}

async function filesIn(folder: string): Promise<string[]> {
  const paths = (await readdir(folder)).map((name) => join(folder, name));
  const isFile = await Promise.all(paths.map(async (path) => (await stat(path)).isFile()));
  return paths.filter((_, i) => isFile[i]);
}

async function partsOf(path: string): Promise<string[]> {
  if (!SPLIT.test(path)) return [path];
  const stem = path.replace(SPLIT, "");
  return (await filesIn(dirname(path))).filter((other) => SPLIT.test(other) && other.replace(SPLIT, "") === stem);
}

/** A file as a page's chosen one. */
async function openFile(path: string, folder: string | undefined): Promise<Blob> {
  const name = basename(path);
  return Object.defineProperties(await openAsBlob(path), {
    name: { value: name },
    webkitRelativePath: { value: folder === undefined ? "" : `${basename(folder)}/${name}` },
    // The stream of a Blob comes in pieces of 64 KiB, five times slower.
    stream: { value: () => Readable.toWeb(createReadStream(path, { highWaterMark: CHUNK })) },
  });
}
