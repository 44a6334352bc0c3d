import { createSHA256 } from "hash-wasm";
import { EmbergramError } from "../error.js";
import { download, FileChanged, sameTag, tailOf, type Begun, type HttpOptions, type Remote } from "./http.js";
import type { ProgressPhase } from "./progress.js";
import type { Held } from "./place.js";
import { checkQuota } from "./room.js";
import { shown } from "./secrets.js";
import { Entry, PIECE_BYTES, type Meta, type Piece } from "./store.js";
import { checkAborted, sleep } from "./wait.js";
import { CacheWriter } from "./writer.js";

/**
 * Thrown by a model's bytes when those given so far turn out to be of another file than the rest: the server's file
 * changed, or the cache held a wrong one. What was wrong is gone from the cache; start over and read again.
 */
export class RestartLoad extends Error {
  override readonly name = "RestartLoad";
}

/** One file on a server. */
export interface RemoteRequest {
  url: URL;
  http: HttpOptions;
  entry: Entry | undefined;
  /** Those of all parts of the model, which stay in the cache while one of them is read. */
  entries: readonly Entry[];
  /** Lower-case hex, from the caller. */
  expected: string | undefined;
  /** What the server's side said of the file before the download. */
  told: Remote | undefined;
  onSize(size: number | undefined): void;
  onBytes(loaded: number, phase: ProgressPhase, cached: boolean): void;
}

/** Milliseconds between looks at another context's download. */
const POLL = 150;

/**
 * The bytes of a file: what the cache holds, piece by piece as verified, then the network. While another context
 * downloads the same file, its pieces are read as they come, and its place is taken if it goes away.
 */
export async function* remoteBytes(request: RemoteRequest): AsyncGenerator<Uint8Array, void, undefined> {
  const uses = await Promise.all(request.entries.map((entry) => entry.use()));
  try {
    await request.entry?.touch();
    yield* cachedBytes(request);
  } finally {
    for (const use of uses) use?.release();
  }
}

async function* cachedBytes(request: RemoteRequest): AsyncGenerator<Uint8Array, void, undefined> {
  const { url, entry, expected, http, onSize, onBytes } = request;
  /** The pieces given so far, which the rest must continue. */
  const given: Piece[] = [];
  let offset = 0;
  let tail: Uint8Array = new Uint8Array(0);
  let known: Meta | undefined;
  const handover = (meta?: Meta, held?: Held): Handover => ({ offset, tail, given, known, meta, held });
  if (entry === undefined) return yield* fetched(request, handover());

  for (let quiet = 0; quiet < http.timeout; ) {
    checkAborted(http.signal);
    const meta = await entry.meta();
    if (meta !== undefined) {
      if (!continues(meta.pieces, given)) throw new RestartLoad(`${shown(url)}: the cached file was replaced`);
      if (isOutdated(meta, expected, request.told)) {
        await Entry.remove(entry.key);
        if (offset > 0) throw new RestartLoad(`${shown(url)}: the cached file is of another version`);
        continue;
      }
      known = meta;
      onSize(meta.size);
    }

    const before = given.length;
    const listed = meta?.pieces ?? [];
    for await (const bytes of pieces(entry, listed, before)) {
      checkAborted(http.signal);
      given.push(listed[given.length]!);
      offset += bytes.length;
      tail = tailOf(tail, bytes);
      onBytes(offset, "cache", true);
      yield bytes;
    }
    const damaged = given.length < listed.length;
    if (meta?.complete && !damaged) return;
    if (given.length > before) quiet = 0;

    const held = await entry.lock();
    if (held !== undefined) {
      try {
        // Between our look and the lock another writer may have gone on, or mended what we found damaged.
        const now = await entry.meta();
        if (!changed(meta, now)) return yield* fetched(request, handover(now, held));
      } finally {
        held.release();
      }
    } else {
      await sleep(POLL, http.signal);
      quiet += POLL;
    }
  }
  yield* fetched(request, handover());
}

/** Whether what is kept is not the file that is wanted, by its sha256 or by the ETag that the hub tells. */
export function isOutdated(meta: Meta, expected: string | undefined, told: Remote | undefined): boolean {
  if (expected !== undefined && meta.sha256 !== undefined) return meta.sha256 !== expected;
  return meta.complete && told?.etag !== undefined && meta.etag !== undefined && !sameTag(told.etag, meta.etag);
}

/** Whether these pieces and those begin alike. */
function continues(pieces: readonly Piece[], given: readonly Piece[]): boolean {
  return pieces.every((piece, i) => given[i] === undefined || given[i].sha256 === piece.sha256);
}

function changed(a: Meta | undefined, b: Meta | undefined): boolean {
  return JSON.stringify(a) !== JSON.stringify(b);
}

/** Pieces from `start` on, the next one read while one is in use; ends early at a damaged one. */
export async function* pieces(entry: Entry, listed: readonly Piece[], start = 0) {
  const read = (i: number) => {
    const piece = listed[i];
    return piece === undefined ? Promise.resolve(undefined) : entry.read(i, piece);
  };
  let next = read(start);
  for (let i = start; ; i++) {
    const bytes = await next;
    if (bytes === undefined) return;
    next = read(i + 1);
    yield bytes;
  }
}

/** Where the network takes over. */
interface Handover extends Begun {
  /** The pieces given so far, which make up the bytes before `offset`. */
  given: readonly Piece[];
  /** The version they came from. */
  known: Meta | undefined;
  /** The entry as it lies there. */
  meta: Meta | undefined;
  /** The right to append to it; without it the cache is left alone. */
  held: Held | undefined;
}

/** The file from `offset` on from the network, appended to the cache where that is possible. */
async function* fetched(request: RemoteRequest, handover: Handover): AsyncGenerator<Uint8Array, void, undefined> {
  const { url, http, entry, told, onSize, onBytes } = request;
  const { offset, given, known } = handover;
  const writer = await writerAt(request, handover);
  let expected = request.expected ?? told?.sha256 ?? (offset > 0 ? known?.sha256 : undefined);
  const restart = async (why: string) => {
    writer?.abandon();
    if (entry) await Entry.remove(entry.key);
    return new RestartLoad(`${shown(url)}: ${why}`);
  };
  const hasher = writer || expected ? await createSHA256() : undefined;
  hasher?.init();
  let at = 0;
  if (hasher && entry) {
    for await (const bytes of pieces(entry, given)) {
      hasher.update(bytes);
      at += bytes.length;
    }
    if (at !== offset) throw await restart("its cached part is gone");
  }

  at = offset;
  let size = known?.size;
  try {
    // A tab closed at the very end leaves all bytes and no word that they are all.
    if (offset === 0 || offset !== size) {
      const arriving = download(url, handover, http, async (remote) => {
        agree(url, request.expected ?? told?.sha256, remote.sha256);
        expected ??= remote.sha256;
        size = remote.size;
        onSize(size);
        writer?.describe(remote);
        if (writer && size !== undefined) await checkQuota(url, size - offset);
      });
      for await (const chunk of arriving) {
        hasher?.update(chunk);
        at += chunk.length;
        await writer?.push(chunk);
        onBytes(at, "download", writer?.active ?? false);
        for (let from = 0; from < chunk.length; from += PIECE_BYTES) yield chunk.subarray(from, from + PIECE_BYTES);
      }
    }
    const sha256 = hasher?.digest("hex");
    if (expected !== undefined && sha256 !== expected) {
      const mixed = await restart("what was cached and what the server has now are not one file");
      if (offset > 0) throw mixed;
      throw new EmbergramError(
        "invalid_file",
        `${shown(url)} has the sha256 ${sha256}, not ${expected}. The download was damaged, or it is another file than meant: load again, or correct the option sha256.`,
      );
    }
    if (sha256 !== undefined) await writer?.finish(at, sha256);
    if (size === undefined) {
      onSize(at);
      onBytes(at, "download", writer?.active ?? false);
    }
  } catch (error) {
    throw error instanceof FileChanged ? await restart("the server has another file now") : error;
  } finally {
    await writer?.flush();
  }
}

/** A writer that goes on after the given pieces; undefined where the entry is none of ours to write, or no longer holds them. */
async function writerAt({ entry }: RemoteRequest, { held, meta, given }: Handover): Promise<CacheWriter | undefined> {
  if (entry === undefined || held === undefined || given.length > (meta?.pieces.length ?? 0)) return undefined;
  await entry.trim(given.length);
  const begun = given.length > 0 ? meta : undefined;
  return new CacheWriter(entry, held, { ...begun, url: entry.url, pieces: given });
}

/** A server that promises another file than the caller wants: known before the first byte. */
export function agree(url: URL, expected: string | undefined, sent: string | undefined): void {
  if (expected === undefined || sent === undefined || expected === sent) return;
  throw new EmbergramError("invalid_file", `${shown(url)} has the sha256 ${sent} as its server says, not ${expected}. Correct the option sha256, or the address or revision.`);
}
