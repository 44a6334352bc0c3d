// Runs in a page, a dedicated worker and a shared worker alike: performs one job with the package's source room and
// tells what came of it. In the page, `run(context, job)` carries a job to the context that shall do it.
import { EmbergramError } from "../../www/embergram/error.js";
import { keptModels, openHeads, openModel, RestartLoad, whole, type CachedModel, type ModelInput, type OpenOptions, type Progress } from "../../www/embergram/source/index.js";

export type Context = "page" | "dedicated" | "shared";

export interface Job {
  do: "load" | "heads" | "list" | "size" | "clear" | "delete" | "damage" | "stored";
  input?: string;
  /** In place of input: files to make, each of so many bytes of the pattern, or of a text; where in a chosen folder. */
  files?: { name?: string; size?: number; text?: string; path?: string }[];
  /** Of heads: so many bytes of each part are read. */
  most?: number;
  /** To delete in place of input. */
  listed?: CachedModel;
  options?: Omit<OpenOptions, "fetch" | "signal" | "onProgress">;
  /** Abort, call return(), or stop reading for ever after so many bytes. */
  abortAfter?: number;
  returnAfter?: number;
  holdAfter?: number;
  abortAfterMs?: number;
  /** Milliseconds to wait after each chunk. */
  slow?: number;
  fetch?: "authorized" | "deaf";
  /** Names the load for the page's `loaded`. */
  name?: string;
  damage?: { piece: string; how: "flip" | "shorten" | "remove" };
}

export interface Result {
  /** A folder's small files, as text. */
  files?: [name: string, text: string][];
  /** What names a folder. */
  named?: string | undefined;
  parts: { name: string; size: number | undefined; bytes: number; sha256: string }[];
  error?: { name: string; code: string; message: string };
  progress: Progress[];
  restarts: number;
  largest: number;
  value?: unknown;
  ms: number;
}

/** The byte at every place of a made file. */
export function pattern(size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = i * 31 + (i >> 8);
  return bytes;
}

const hex = (bytes: ArrayBuffer) => Array.from(new Uint8Array(bytes), (b) => b.toString(16).padStart(2, "0")).join("");

async function load(job: Job): Promise<Result> {
  const result: Result = { parts: [], progress: [], restarts: 0, largest: 0, ms: 0 };
  const begin = performance.now();
  const controller = new AbortController();
  if (job.abortAfterMs !== undefined) setTimeout(() => controller.abort(), job.abortAfterMs);
  const options: OpenOptions = { ...job.options, signal: controller.signal, onProgress: (p) => result.progress.push(p) };
  if (job.fetch === "authorized") options.fetch = (url, init) => fetch(url, { ...init, headers: { ...init?.headers, authorization: "Bearer x" } });
  if (job.fetch === "deaf") options.fetch = () => new Promise(() => {});
  let input: ModelInput | undefined = job.input;
  if (job.files) {
    const made = job.files.map(({ name, size = 0, text, path }) => {
      const content = [text ?? pattern(size)];
      const file = name === undefined ? new Blob(content) : new File(content, name);
      return path === undefined ? file : Object.defineProperty(file, "webkitRelativePath", { value: path });
    });
    input = made.length === 1 ? made[0]! : made;
  }
  const told = (error: unknown) => {
    const e = error as EmbergramError;
    result.error = { name: e.name, code: error instanceof EmbergramError ? e.code : "untyped", message: e.message };
  };
  if (job.do === "heads") {
    try {
      const heads = await openHeads(input!, options);
      if (heads.config) result.files = [["config.json", new TextDecoder().decode(heads.config)]];
      for (const part of heads.parts) {
        const chunks: Uint8Array[] = [];
        for await (const chunk of part.bytes()) {
          chunks.push(chunk);
          if (chunks.reduce((sum, { length }) => sum + length, 0) >= (job.most ?? 1)) break;
        }
        const whole = await new Blob(chunks as BlobPart[]).arrayBuffer();
        result.parts.push({ name: part.name, size: undefined, bytes: whole.byteLength, sha256: hex(await crypto.subtle.digest("SHA-256", whole)) });
      }
      result.value = await heads.size();
    } catch (error) {
      told(error);
    }
    return result;
  }
  try {
    const source = await openModel(input!, options);
    result.named = source.name;
    result.files = [];
    for (const file of source.files) result.files.push([file.name, new TextDecoder().decode(await whole(file))]);
    for (const part of source.parts) {
      for (;;) {
        const chunks: Uint8Array[] = [];
        let bytes = 0;
        try {
          for await (const chunk of part.bytes()) {
            chunks.push(chunk);
            bytes += chunk.length;
            result.largest = Math.max(result.largest, chunk.length);
            if (job.slow) await new Promise((done) => setTimeout(done, job.slow));
            if (bytes >= (job.abortAfter ?? Infinity)) controller.abort();
            if (bytes >= (job.holdAfter ?? Infinity)) await new Promise(() => {});
            if (bytes >= (job.returnAfter ?? Infinity)) break;
          }
        } catch (error) {
          if (!(error instanceof RestartLoad)) throw error;
          result.restarts += 1;
          continue;
        }
        const whole = await new Blob(chunks as BlobPart[]).arrayBuffer();
        result.parts.push({ name: part.name, size: part.size, bytes, sha256: hex(await crypto.subtle.digest("SHA-256", whole)) });
        break;
      }
    }
  } catch (error) {
    told(error);
  }
  result.ms = performance.now() - begin;
  return result;
}

/** Spoils what is cached for a URL, as a disk would. */
async function damage(url: string, { piece, how }: NonNullable<Job["damage"]>): Promise<void> {
  let folder = await navigator.storage.getDirectory();
  for (const name of ["embergram", "models"]) folder = await folder.getDirectoryHandle(name);
  for await (const entry of folder.values()) {
    const cached = entry as FileSystemDirectoryHandle;
    const meta = await (await (await cached.getFileHandle("meta.json")).getFile()).text();
    if (!meta.includes(JSON.stringify(url))) continue;
    if (how === "remove") return cached.removeEntry(piece);
    const handle = await cached.getFileHandle(piece);
    const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
    const middle = bytes.length >> 1;
    bytes[middle] = bytes[middle]! ^ 1;
    const stream = await handle.createWritable();
    await stream.write(how === "flip" ? bytes : bytes.subarray(0, middle));
    return stream.close();
  }
  throw new Error(`nothing cached for ${url}`);
}

/** All that the cache says of its files: names, and the texts that are no piece of a model. */
async function stored(): Promise<string> {
  const said: string[] = [];
  const folder = async (directory: FileSystemDirectoryHandle): Promise<void> => {
    for await (const [name, handle] of directory.entries()) {
      said.push(name);
      if (handle.kind === "directory") await folder(handle as FileSystemDirectoryHandle);
      else if (!/^\d+$/.test(name)) said.push(await (await (handle as FileSystemFileHandle).getFile()).text());
    }
  };
  await folder(await navigator.storage.getDirectory());
  return said.join("\n");
}

async function perform(job: Job): Promise<Result> {
  const value = async (of: Promise<unknown>): Promise<Result> => ({ parts: [], progress: [], restarts: 0, largest: 0, ms: 0, value: await of });
  if (job.do === "list") return value(keptModels.list());
  if (job.do === "size") return value(keptModels.size());
  if (job.do === "clear") return value(keptModels.clear());
  if (job.do === "delete") return value(keptModels.delete(job.listed ?? job.input!, job.options));
  if (job.do === "stored") return value(stored());
  if (job.do === "damage") return value(damage(new URL(job.input!, location.href).href, job.damage!));
  return load(job);
}

const scope = globalThis as unknown as {
  document?: unknown; onconnect?: ((e: MessageEvent) => void) | null; onmessage?: ((e: MessageEvent) => void) | null; run?: unknown;
};
const serveJobs = (port: { postMessage(m: unknown): void }) => async ({ data }: MessageEvent<{ id: number; job: Job }>) => {
  port.postMessage({ id: data.id, result: await perform(data.job) });
};
if (scope.document !== undefined) {
  const ports: Partial<Record<Context, MessagePort | Worker>> = {};
  const open = { dedicated: () => new Worker("/harness.js", { type: "module" }), shared: () => new SharedWorker("/harness.js", { type: "module" }).port };
  let ids = 0;
  scope.run = (context: Context, job: Job): Promise<Result> => {
    if (context === "page") return perform(job);
    const port = (ports[context] ??= open[context]());
    if (port instanceof MessagePort) port.start();
    const id = ids++;
    return new Promise((done, fail) => {
      port.addEventListener("message", (e) => {
        const { data } = e as MessageEvent<{ id: number; result: Result }>;
        if (data.id === id) done(data.result);
      });
      port.addEventListener("error", (e) => fail(new Error(String((e as ErrorEvent).message))));
      port.postMessage({ id, job });
    });
  };
} else if ("onconnect" in scope) {
  scope.onconnect = (e) => {
    const port = e.ports[0]!;
    port.onmessage = serveJobs(port);
  };
} else {
  scope.onmessage = serveJobs(globalThis as unknown as Worker);
}
