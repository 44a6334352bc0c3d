import { createSHA256 } from "hash-wasm";
import { EmbergramError } from "../error.js";
import { localFiles } from "../platform.js";
import { probe, readPointer, type HttpOptions, type Remote } from "./http.js";
import { modelFiles, nameOf, unreadable } from "./files.js";
import type { ModelFiles } from "./folder.js";
import { findFiles } from "./hub.js";
import { fileName, type ModelInput, type NameOptions, type RemoteFile } from "./names.js";
import { ProgressMeter, type Progress } from "./progress.js";
import { agree, isOutdated, remoteBytes, RestartLoad } from "./remote.js";
import { checkQuota } from "./room.js";
import { shown } from "./secrets.js";
import { Entry } from "./store.js";
import { checkAborted, SILENCE } from "./wait.js";

/** How a model's files are brought, checked and kept. */
export interface DownloadOptions {
  /**
   * Keeps downloads in OPFS, under Node in a folder, and reads them from there; default true. Where storage is short, the files that were used least
   * recently give way. Files and Blobs are never cached.
   */
  cache?: boolean;
  /** What the file's bytes must hash to (hex); for a split model one for each part, for a folder one for each file of safetensors. */
  sha256?: string | readonly string[];
  /** Attempts after a failed one, in a row without a byte between them; default 5. */
  retries?: number;
  /** Milliseconds before the first retry, doubled for each further one; default 500. */
  retryDelay?: number;
  /**
   * Milliseconds without a byte after which a connection, or another tab's download, counts as broken; default 30000. It
   * holds for the engine's module as well.
   */
  timeout?: number;
}

/** How a model is opened. */
export interface OpenOptions extends NameOptions, DownloadOptions {
  /** In place of the global fetch, to add headers, say. It is called with a URL, `Range`, and an `AbortSignal`. */
  fetch?: typeof fetch;
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

/** One file of a model. */
export interface ModelPart {
  /** The last part of the address, or the file's name. */
  readonly name: string;
  /** Bytes, once known: for most servers when the first have arrived. */
  readonly size: number | undefined;
  /**
   * The bytes, in chunks of at most 4 MiB, which are the caller's. Read to the end, or call `return()`, or the
   * cache entry stays locked. May be called again, for a fresh start.
   * @throws RestartLoad when the bytes so far must be forgotten: call `bytes()` again. It happens at most twice.
   * @throws EmbergramError `http`, `network`, `quota`, `aborted`, `invalid_file`, `truncated_file`
   */
  bytes(): AsyncGenerator<Uint8Array, void, undefined>;
}

/** A model's files. */
export interface ModelSource {
  /** Those with its weights, in order: one, all parts of a split GGUF, or a folder's safetensors. */
  readonly parts: readonly ModelPart[];
  /** A Hugging Face folder's small files, `config.json` first; none of a GGUF. */
  readonly files: readonly ModelPart[];
  /** What metrics call a folder: its place on the hub, or its own name. */
  readonly name?: string;
}

const RESTARTS = 2;

/**
 * Finds a model's files and checks what can be checked before the first byte: options, for a split model that all parts
 * are there and fit the storage, for an `hf:` name the sha256 that the hub gives.
 * @throws EmbergramError `invalid_config`, `http`, `network`, `quota`, `aborted`, `invalid_file`, `unsupported_model`
 */
export async function openModel(input: ModelInput, options: OpenOptions = {}): Promise<ModelSource> {
  checkAborted(options.signal);
  const files = await filesOf(input, options);
  if (files !== undefined) return openFiles(await modelFiles(files), options);
  const http = httpOptions(options);
  const { onProgress, sha256, ...quiet } = options;
  const text = async (file: RemoteFile) => new TextDecoder().decode(await whole((await openRemote({ weights: [file], small: [] }, quiet, http)).parts[0]!));
  return openRemote(await findFiles(input as string | URL, options, http, text), options, http);
}

/** The files of an input that is no address. */
export async function filesOf(input: ModelInput, options: NameOptions): Promise<readonly Blob[] | undefined> {
  if (input instanceof Blob) return [input];
  return typeof input === "string" || input instanceof URL ? localFiles(input, options) : [...input];
}

/** How to talk to the server, by the caller's options. */
export function httpOptions(options: OpenOptions): HttpOptions {
  return {
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    signal: options.signal,
    retries: options.retries ?? 5,
    retryDelay: options.retryDelay ?? 500,
    timeout: options.timeout ?? SILENCE,
    store: true,
  };
}

/** All bytes of a small file. */
export async function whole(part: ModelPart): Promise<Uint8Array<ArrayBuffer>> {
  for (;;) {
    try {
      const chunks: BlobPart[] = [];
      for await (const bytes of part.bytes()) chunks.push(bytes as Uint8Array<ArrayBuffer>);
      return new Uint8Array(await new Blob(chunks).arrayBuffer());
    } catch (error) {
      if (!(error instanceof RestartLoad)) throw error;
    }
  }
}

/** The caller's sha256 of each part. */
function expectedHashes(parts: number, sha256: OpenOptions["sha256"]): (string | undefined)[] {
  if (sha256 === undefined) return new Array<undefined>(parts).fill(undefined);
  const all = typeof sha256 === "string" ? [sha256] : sha256;
  if (all.length !== parts) {
    throw new EmbergramError("invalid_config", `sha256: the model has ${parts} file${parts > 1 ? "s" : ""}, and ${all.length} hashes were given; give one for each, in order.`);
  }
  return all.map((hash) => {
    if (!/^[0-9a-f]{64}$/i.test(hash)) throw new EmbergramError("invalid_config", `sha256: "${hash}" is not 64 hexadecimal digits.`);
    return hash.toLowerCase();
  });
}

function openFiles({ weights, small, name }: ModelFiles<Blob>, options: OpenOptions): ModelSource {
  const hashes = expectedHashes(weights.length, options.sha256);
  const files = [...weights, ...small];
  const meter = new ProgressMeter(files.length, options.onProgress);
  files.forEach((file, i) => meter.setSize(i, file.size));
  const parts = files.map((file, i) => {
    const name = nameOf(file) || "model.gguf";
    return { name, size: file.size, bytes: () => fileBytes(file, name, hashes[i], options.signal, (n) => meter.set(i, n, "file", false)) };
  });
  return split(parts, weights.length, name);
}

/** The first of these parts have the weights. */
function split(parts: readonly ModelPart[], weights: number, name: string | undefined): ModelSource {
  return { parts: parts.slice(0, weights), files: parts.slice(weights), ...(name !== undefined && { name }) };
}

async function* fileBytes(file: Blob, name: string, expected: string | undefined, signal: AbortSignal | undefined, onBytes: (loaded: number) => void) {
  const hasher = expected === undefined ? undefined : await createSHA256();
  hasher?.init();
  const reader = file.stream().getReader();
  let loaded = 0;
  try {
    for (;;) {
      checkAborted(signal);
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw unreadable(name, error);
      });
      if (done) break;
      hasher?.update(value);
      loaded += value.length;
      onBytes(loaded);
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
  const sha256 = hasher?.digest("hex");
  if (sha256 !== expected) throw new EmbergramError("invalid_file", `The file "${name}" has the sha256 ${sha256}, not ${expected}. Choose the file that is meant, or correct the option sha256.`);
}

async function openRemote({ weights, small, name }: ModelFiles<RemoteFile>, options: OpenOptions, http: HttpOptions): Promise<ModelSource> {
  const hashes = expectedHashes(weights.length, options.sha256);
  const files = [...weights, ...small];
  const caching = options.cache ?? true;
  const meter = new ProgressMeter(files.length, options.onProgress);
  const cacheable = (url: URL) => caching && (url.protocol === "http:" || url.protocol === "https:");
  const places = await Promise.all(files.map((file) => (cacheable(file.url) ? Entry.of(file) : undefined)));
  const entries = places.filter((entry) => entry !== undefined);
  const parts = await Promise.all(files.map(async (file, i) => {
    const { url, pointer } = file;
    const entry = places[i];
    const meta = await entry?.meta();
    let told: Remote | undefined = file.told;
    // Whoever asked the hub wants its version, whatever lies here.
    const expected = hashes[i] ?? told?.sha256;
    const cached = meta?.complete === true && !isOutdated(meta, expected, told);
    if (!cached) {
      told ??= pointer && (await readPointer(pointer, http));
      agree(url, hashes[i], told?.sha256);
      if (files.length > 1) told ??= await probe(url, http);
    }
    const missing = cached ? 0 : (told?.size ?? 0) - (meta?.pieces ?? []).reduce((sum, piece) => sum + piece.size, 0);
    const part = new RemotePart(url, meter, i, (onSize) => remoteBytes({
      url,
      // What OPFS keeps need not lie in the HTTP cache as well.
      http: { ...http, store: entry === undefined },
      entry,
      entries,
      expected,
      told,
      onSize,
      onBytes: (loaded, phase, kept) => meter.set(i, loaded, phase, kept),
    }));
    part.setSize(cached ? meta.size : told?.size);
    return { part, missing: entry === undefined ? 0 : Math.max(0, missing) };
  }));
  // Each part is checked when its own download starts; a split model must fit as a whole.
  const missing = parts.reduce((sum, part) => sum + part.missing, 0);
  if (parts.length > 1 && missing > 0) await checkQuota(files[0]!.url, missing, entries);
  return split(parts.map(({ part }) => part), weights.length, name);
}

class RemotePart implements ModelPart {
  readonly name: string;
  size: number | undefined;
  private restarts = 0;

  constructor(
    private readonly url: URL, private readonly meter: ProgressMeter, private readonly index: number,
    private readonly read: (onSize: (size: number | undefined) => void) => AsyncGenerator<Uint8Array, void, undefined>,
  ) {
    this.name = fileName(url) || "model.gguf";
  }

  setSize(size: number | undefined): void {
    this.size = size ?? this.size;
    this.meter.setSize(this.index, size);
  }

  async *bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* this.read((size) => this.setSize(size));
    } catch (error) {
      if (!(error instanceof RestartLoad) || this.restarts++ < RESTARTS) throw error;
      throw new EmbergramError("invalid_file", `${shown(this.url)} keeps changing while it is loaded (${error.message}). Load again when the server's file is settled, or with cache: false.`, { cause: error });
    }
  }
}
