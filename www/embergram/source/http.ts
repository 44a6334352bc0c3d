import { EmbergramError } from "../error.js";
import { advice } from "./advice.js";
import { shown } from "./secrets.js";
import { checkAborted, sleep } from "./wait.js";

/** What tells one version of a file on a server from another. */
export interface Identity {
  etag?: string;
  lastModified?: string;
  /** Bytes. */
  size?: number;
}

/** What a server said about a file. */
export interface Remote extends Identity {
  /** Lower-case hex, from `Repr-Digest`, `Digest` or `X-Linked-ETag`. */
  sha256?: string;
}

/** How to talk to the server. */
export interface HttpOptions {
  fetch: typeof fetch;
  signal: AbortSignal | undefined;
  /** Attempts after the first that may fail in a row, with no byte between them. */
  retries: number;
  /** Milliseconds before the first retry; doubled for each further one, each drawn between half and all of it. */
  retryDelay: number;
  /** Milliseconds of silence after which a connection counts as broken. */
  timeout: number;
  /** False keeps the browser's own HTTP cache out, where OPFS holds the model already. */
  store: boolean;
}

/** The server's file is not the one whose first bytes we have. */
export class FileChanged extends Error {}

const LONGEST_DELAY = 15_000;
const LONGEST_RETRY_AFTER = 60_000;
const RETRIED = new Set([408, 425, 429, 500, 502, 503, 504]);

/** A failure that may pass. */
class Passing extends Error {
  constructor(readonly final: EmbergramError, readonly retryAfter?: number) {
    super(final.message);
  }
}

/** Whether two answers can be about the same bytes: the strongest validator that both have decides. */
export function sameFile(a: Identity, b: Identity): boolean {
  if (a.size !== undefined && b.size !== undefined && a.size !== b.size) return false;
  if (a.etag !== undefined && b.etag !== undefined) return sameTag(a.etag, b.etag);
  if (a.lastModified !== undefined && b.lastModified !== undefined) return a.lastModified === b.lastModified;
  return a.size !== undefined && a.size === b.size;
}

/** Whether two ETags are of one version. */
export const sameTag = (a: string, b: string) => weak(a) === weak(b);
const weak = (etag: string) => etag.replace(/^W\//, "");

/** What is there of a file. */
export interface Begun {
  /** Bytes. */
  offset: number;
  /** The last of them, see {@link tailOf}. */
  tail: Uint8Array;
  /** The version they came from. */
  known: Identity | undefined;
}

/**
 * Bytes that are fetched again and compared when a download goes on. Servers of another origin may hide every mark of a
 * version but the length, which two versions may share.
 */
const OVERLAP = 1024;

/** The last bytes of a file, after these and more. A copy: chunks are their receiver's. */
export function tailOf(tail: Uint8Array, more: Uint8Array): Uint8Array {
  if (more.length >= OVERLAP) return more.slice(-OVERLAP);
  const both = new Uint8Array(tail.length + more.length);
  both.set(tail);
  both.set(more, tail.length);
  return both.slice(-OVERLAP);
}

/**
 * The bytes of a file after those that are there, over as many connections as it takes.
 * @param onResponse called once, before the first byte; what it throws ends the download
 * @throws FileChanged when the server has another version now; EmbergramError `http`, `network`, `aborted`, `truncated_file`
 */
export async function* download(
  url: URL, { offset, tail: last, known }: Begun, options: HttpOptions, onResponse: (remote: Remote) => void | Promise<void>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  let at = offset;
  let tail = last;
  let version = known;
  let answered = false;
  let failures = 0;
  for (;;) {
    try {
      const { response, remote, start, guard } = await get(url, at - tail.length, options);
      // What must come again before anything new.
      let again = tail;
      try {
        if (version !== undefined && at > 0 && !sameFile(version, remote)) throw new FileChanged();
        version = remote;
        if (!answered) await onResponse(remote);
        answered = true;
        let skip = at - tail.length - start;
        for await (const chunk of body(url, response, guard, options)) {
          const rest = chunk.subarray(Math.min(skip, chunk.length));
          skip -= chunk.length - rest.length;
          const fresh = rest.subarray(Math.min(again.length, rest.length));
          const repeated = rest.subarray(0, rest.length - fresh.length);
          if (repeated.some((byte, i) => byte !== again[i])) throw new FileChanged();
          again = again.subarray(repeated.length);
          if (fresh.length === 0) continue;
          tail = tailOf(tail, fresh);
          at += fresh.length;
          failures = 0;
          yield fresh;
        }
      } finally {
        guard.end();
      }
      const { size } = remote;
      if (again.length === 0 && (size === undefined || at === size)) return;
      if (size === undefined) throw new FileChanged();
      if (at > size) throw new EmbergramError("invalid_file", `${shown(url)} promised ${size} bytes and sent more. Check the server's Content-Length and Content-Range.`);
      throw new Passing(broken(url, `ended after ${at} of ${size} bytes`));
    } catch (error) {
      checkAborted(options.signal);
      if (!(error instanceof Passing)) throw error;
      if (failures >= options.retries) throw error.final;
      await sleep(error.retryAfter ?? delay(failures, options.retryDelay), options.signal);
      failures += 1;
    }
  }
}

/**
 * What the server says of a file without sending it; undefined where it answers no HEAD.
 * @throws EmbergramError `http` for a file that is not there, `network`, `aborted`
 */
export async function probe(url: URL, options: HttpOptions): Promise<Remote | undefined> {
  return persistent(options, async (guard) => {
    const response = await ask(url, { method: "HEAD" }, guard, options);
    if (response.ok) return describe(response, 0).remote;
    if (response.status === 404 || response.status === 410 || RETRIED.has(response.status)) throw await refused(url, response, guard);
    return undefined;
  });
}

/**
 * The same of a file that need not be there: null where it is not. Some servers refuse what they do not have, and some answer
 * any address with a page.
 * @throws EmbergramError `http` from a server in trouble, `network`, `aborted`
 */
export async function probeOptional(url: URL, options: HttpOptions): Promise<Remote | null | undefined> {
  return persistent(options, async (guard) => {
    const response = await ask(url, { method: "HEAD" }, guard, options);
    const { ok, status, headers } = response;
    if (status === 403 || status === 404 || status === 410 || (ok && headers.get("content-type")?.startsWith("text/html"))) return null;
    if (RETRIED.has(status)) throw await refused(url, response, guard);
    return ok ? describe(response, 0).remote : undefined;
  });
}

/**
 * A text of which the server has more pages, and the address of the next one (RFC 8288).
 * @throws EmbergramError `http`, `network`, `aborted`
 */
export async function readPage(url: URL, options: HttpOptions): Promise<{ text: string; next: URL | undefined }> {
  return persistent(options, async (guard) => {
    const response = await ask(url, {}, guard, options);
    if (!response.ok) throw await refused(url, response, guard);
    const next = /<([^>]*)>\s*;[^,]*\brel="?next\b/i.exec(response.headers.get("link") ?? "")?.[1];
    const text = await guard.within(response.text()).catch(() => {
      throw new Passing(broken(url, "broke"));
    });
    return { text, next: next === undefined ? undefined : new URL(next, url) };
  });
}

/**
 * So many bytes of a file from `at` on, fewer where it ends.
 * @throws EmbergramError `http`, `network`, `aborted`
 */
export async function readRange(url: URL, at: number, length: number, options: HttpOptions): Promise<{ bytes: Uint8Array<ArrayBuffer>; remote: Remote }> {
  return persistent(options, async (guard) => {
    const range = `bytes=${at}-${at + length - 1}`;
    const response = await ask(url, { headers: { range } }, guard, options);
    if (response.status === 416) return { bytes: new Uint8Array(0), remote: { size: at } };
    if (response.status !== 200 && response.status !== 206) throw await refused(url, response, guard);
    const { remote, start } = describe(response, at);
    if (start > at || (response.status === 206 && start !== at)) throw brokenRange(url, range, response);
    // The length of such an answer is not that of the file.
    if (response.status === 206 && !response.headers.has("content-range")) delete remote.size;
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let there = start;
    // A server that ignores ranges sends all: the rest is left.
    for await (const chunk of body(url, response, guard, options)) {
      chunks.push(chunk.subarray(Math.max(0, at - there)));
      there += chunk.length;
      if (there >= at + length) break;
    }
    return { bytes: new Uint8Array(await new Blob(chunks).arrayBuffer()).subarray(0, length), remote };
  });
}

/** Tries again what failed and may pass. */
async function persistent<T>(options: HttpOptions, attempt: (guard: Guard) => Promise<T>): Promise<T> {
  for (let failures = 0; ; failures++) {
    const guard = new Guard(options.signal, options.timeout);
    try {
      return await attempt(guard);
    } catch (error) {
      checkAborted(options.signal);
      if (!(error instanceof Passing)) throw error;
      if (failures >= options.retries) throw error.final;
      await sleep(error.retryAfter ?? delay(failures, options.retryDelay), options.signal);
    } finally {
      guard.end();
    }
  }
}

/**
 * Size and sha256 from a Git LFS pointer, which is a text of three lines; undefined where there is none. Only an aid:
 * a failure here is no failure of the load.
 */
export async function readPointer(url: URL, options: HttpOptions): Promise<Remote | undefined> {
  const guard = new Guard(options.signal, options.timeout);
  try {
    // The hub answers with the file itself where it is not in LFS: the range keeps that short.
    const response = await ask(url, { headers: { range: "bytes=0-1023" } }, guard, options);
    const length = Number(response.headers.get("content-length") ?? NaN);
    if (!response.ok || !(length <= 1024)) return undefined;
    const text = await response.text();
    const sha256 = /^oid sha256:([0-9a-f]{64})$/m.exec(text)?.[1];
    const size = /^size (\d+)$/m.exec(text)?.[1];
    return text.startsWith("version https://git-lfs") && sha256 && size ? { sha256, size: Number(size) } : undefined;
  } catch {
    checkAborted(options.signal);
    return undefined;
  } finally {
    guard.end();
  }
}

/** Ends a request: when the caller aborts, when nothing arrives for too long, and when we are through with it. */
class Guard {
  private readonly controller = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  stalled = false;
  readonly signal = this.controller.signal;
  private readonly stop = () => this.controller.abort();

  constructor(private readonly outer: AbortSignal | undefined, private readonly timeout: number) {
    checkAborted(outer);
    outer?.addEventListener("abort", this.stop);
  }

  /** Waits for something from the server, not for ever. */
  async within<T>(promise: Promise<T>): Promise<T> {
    this.timer = setTimeout(() => {
      this.stalled = true;
      this.controller.abort();
    }, this.timeout);
    let stop = () => {};
    // A custom fetch, or a body of its making, may not heed the signal.
    const stopped = new Promise<never>((_, fail) => (stop = () => fail(new Error("stopped"))));
    this.signal.addEventListener("abort", stop);
    if (this.signal.aborted) stop();
    try {
      return await Promise.race([promise, stopped]);
    } finally {
      clearTimeout(this.timer);
      this.signal.removeEventListener("abort", stop);
    }
  }

  end(): void {
    this.outer?.removeEventListener("abort", this.stop);
    this.controller.abort();
  }
}

async function ask(url: URL, init: RequestInit, guard: Guard, options: HttpOptions): Promise<Response> {
  const { fetch } = options;
  try {
    return await guard.within(fetch(url.href, { ...init, signal: guard.signal, ...(options.store ? {} : { cache: "no-store" }) }));
  } catch (error) {
    checkAborted(options.signal);
    const told = String((error as Error | undefined)?.message ?? error);
    const reason = guard.stalled ? `no answer within ${options.timeout / 1000} s` : told.replaceAll(url.href, shown(url));
    throw new Passing(new EmbergramError(
      "network",
      `Could not reach ${shown(url)} (${reason}). Check the connection and the address; another origin must allow this page through CORS (Access-Control-Allow-Origin).`,
      { cause: error },
    ));
  }
}

async function get(url: URL, at: number, options: HttpOptions) {
  const guard = new Guard(options.signal, options.timeout);
  try {
    // Asked for even from byte 0: a request with Range is never answered compressed, so lengths are those of the file.
    // No If-Range: another origin, or one that a redirect leads to, would have to be asked first through a preflight that
    // file hosts do not answer. What the answer says of itself is compared instead.
    const range = `bytes=${at}-`;
    const response = await ask(url, { headers: { range } }, guard, options);
    if (response.status === 416) {
      // No byte is there where some were.
      if (at > 0) throw new FileChanged();
      throw new EmbergramError("truncated_file", `${shown(url)} is empty. Check what the server holds there.`);
    }
    if (response.status !== 200 && response.status !== 206) throw await refused(url, response, guard);
    const described = describe(response, at);
    if (described.start > at || (response.status === 206 && described.start !== at)) {
      throw brokenRange(url, range, response);
    }
    return { response, guard, ...described };
  } catch (error) {
    guard.end();
    throw error;
  }
}

function describe(response: Response, at: number): { remote: Remote; start: number } {
  const { headers, status } = response;
  const remote: Remote = {};
  const etag = headers.get("etag");
  const lastModified = headers.get("last-modified");
  if (etag !== null) remote.etag = etag;
  if (lastModified !== null) remote.lastModified = lastModified;
  const coded = (headers.get("content-encoding") ?? "identity") !== "identity";
  const length = headers.get("content-length");
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get("content-range") ?? "");
  // Another origin may hide Content-Range; then the answer can only start where it was asked to.
  const start = status === 206 ? Number(range?.[1] ?? at) : 0;
  if (range?.[2] !== undefined) {
    if (range[2] !== "*") remote.size = Number(range[2]);
  } else if (length !== null && !coded) {
    remote.size = start + Number(length);
  }
  const sha256 = coded ? undefined : digestOf(headers);
  if (sha256 !== undefined) remote.sha256 = sha256;
  return { remote, start };
}

/** The sha256 of the whole file, as servers send it (RFC 9530, RFC 3230, the Hugging Face hub). */
export function digestOf(headers: Headers): string | undefined {
  const linked = /^(?:W\/)?"?([0-9a-f]{64})"?$/i.exec(headers.get("x-linked-etag") ?? "")?.[1];
  if (linked !== undefined) return linked.toLowerCase();
  const base64 = /(?:^|[,\s])sha-256=:([A-Za-z0-9+/]{43}=):/i.exec(headers.get("repr-digest") ?? "")?.[1] ??
    /(?:^|[,\s])sha-256=([A-Za-z0-9+/]{43}=)/i.exec(headers.get("digest") ?? "")?.[1];
  return base64 === undefined ? undefined : hex(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));
}

/** Lower-case hex. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

async function* body(url: URL, response: Response, guard: Guard, { signal, timeout }: HttpOptions) {
  if (response.body === null) return;
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await guard.within(reader.read());
      if (done) return;
      yield value;
    }
  } catch (error) {
    checkAborted(signal);
    throw new Passing(broken(url, guard.stalled ? `brought nothing for ${timeout / 1000} s` : "broke"));
  } finally {
    reader.cancel().catch(() => {});
  }
}

function broken(url: URL, how: string): EmbergramError {
  return new EmbergramError("network", `The connection to ${shown(url)} ${how}, also when tried again. Check the connection and load again: with the cache on, the download goes on where it broke.`);
}

function brokenRange(url: URL, range: string, { headers }: Response): EmbergramError {
  return new EmbergramError("http", `${shown(url)} answered Range ${range} with ${headers.get("content-range")}. The server's range support is broken: mend it, or switch it off.`);
}

async function refused(url: URL, response: Response, guard: Guard): Promise<EmbergramError | Passing> {
  const { status, headers } = response;
  const reason = (await reasonOf(response, guard))?.replaceAll(url.href, shown(url)).replace(/\.$/, "");
  const answer = `${shown(url)} answered ${status} ${response.statusText}`.trimEnd();
  const error = new EmbergramError("http", `${answer}${reason ? ` (${reason})` : ""}. ${advice(status, headers.get("x-error-code"))}`);
  if (!RETRIED.has(status)) return error;
  const after = Number(headers.get("retry-after") ?? NaN) * 1000;
  return new Passing(error, after > 0 ? Math.min(after, LONGEST_RETRY_AFTER) : undefined);
}

/** Why the server refuses, in its own words, as the hub says it: in a header, or as JSON. */
async function reasonOf(response: Response, guard: Guard): Promise<string | undefined> {
  let said: unknown = response.headers.get("x-error-message");
  if (said === null && /\bjson\b/.test(response.headers.get("content-type") ?? "")) {
    said = await guard.within(response.json()).then((body: { error?: unknown } | null) => body?.error, () => undefined);
  }
  return typeof said === "string" ? said.slice(0, 300) : undefined;
}

function delay(failures: number, first: number): number {
  const longest = Math.min(first * 2 ** failures, LONGEST_DELAY);
  return longest / 2 + (Math.random() * longest) / 2;
}
