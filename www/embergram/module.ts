/** The WebAssembly modules: the engine's, one instance for all hosts of a context, those of the CPU's kernels, and the grammars'. */
import initEngine, { version } from "./engine/engine.js";
import { EmbergramError } from "./error.js";
import { fetchModule } from "./platform.js";
import { SILENCE } from "./source/index.js";
import { checkVersions, VERSION } from "./version.js";

/** The modules' files, without their ending. */
export type ModuleName = "engine_bg" | "kernels" | "kernels_relaxed" | "grammar";

/** The modules themselves, gzipped. */
export type Modules = Readonly<Record<ModuleName, Blob>>;

export interface ModuleOptions {
  /** Where the engine's is, with the others beside it; default beside this script. */
  wasmUrl?: string | undefined;
  /** The modules themselves, in place of an address. */
  wasm?: Modules | undefined;
  /** Milliseconds of silence after which its download counts as broken. */
  timeout?: number | undefined;
}

let instance: Promise<unknown> | undefined;

/** Instantiates it, the first time; one that failed is tried again. */
export async function startModule(options: ModuleOptions): Promise<void> {
  instance ??= ofThisVersion(options).catch((error: unknown) => {
    instance = undefined;
    throw error;
  });
  await instance;
}

async function ofThisVersion(options: ModuleOptions): Promise<void> {
  const check = (found?: string) => checkVersions("the engine's script", VERSION, "its module (engine_bg.wasm)", found);
  try {
    await instantiate(options);
  } catch (error) {
    // Each version has imports of its own.
    if (error instanceof WebAssembly.LinkError) check();
    throw error;
  }
  check(version());
}

async function instantiate(options: ModuleOptions): Promise<unknown> {
  return received("engine_bg", options, (answer) => initEngine({ module_or_path: answer }));
}

/** The bytes of a module. */
export async function moduleBytes(name: ModuleName, options: ModuleOptions): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(await received(name, options, (answer) => answer.arrayBuffer()));
  if (MAGIC.every((byte, i) => bytes[i] === byte)) return bytes;
  const where = options.wasm ? name : address(name, options.wasmUrl).href;
  throw new EmbergramError("http", `${where} is no WebAssembly module: the server sends something else in its place. ${ADVICE}`);
}

/** What `take` makes of the answer that has a module's bytes, while they keep coming. */
async function received<T>(name: ModuleName, { wasm, wasmUrl, timeout = SILENCE }: ModuleOptions, take: (answer: Response) => Promise<T>): Promise<T> {
  if (wasm) {
    const bytes = wasm[name].stream().pipeThrough(new DecompressionStream("gzip"));
    return take(new Response(bytes, { headers: { "content-type": "application/wasm" } }));
  }
  const url = address(name, wasmUrl);
  const stop = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(unreachable(url, `silent for ${timeout / 1000} s`)), timeout);
  };
  try {
    heard();
    const response = await fetchModule(url, { signal: stop.signal });
    if (!response.ok) throw new EmbergramError("http", `${url.href}, a module of the engine, was answered with ${response.status}. ${ADVICE}`);
    // The answer itself goes to the compiler, with which browsers keep what they compiled; a copy tells whether bytes come.
    const copy = response.clone();
    const listening = listen(copy, heard).then(() => clearTimeout(timer));
    const [made] = await Promise.all([take(response), listening]);
    return made;
  } catch (error) {
    if (stop.signal.aborted) throw stop.signal.reason;
    if (error instanceof EmbergramError) throw error;
    // fetch and streams speak of a connection that broke as a TypeError.
    throw error instanceof TypeError ? unreachable(url, error.message) : error;
  } finally {
    stop.abort();
    clearTimeout(timer);
  }
}

/** Where a module is: where the engine's was said to be, or beside this script. Written out in full, for bundlers. */
function address(name: ModuleName, wasmUrl: string | undefined): URL {
  if (wasmUrl !== undefined) {
    const engine = new URL(wasmUrl, globalThis.location?.href);
    return name === "engine_bg" ? engine : new URL(`${name}.wasm`, engine);
  }
  if (name === "kernels") return new URL("./kernels.wasm", import.meta.url);
  if (name === "kernels_relaxed") return new URL("./kernels_relaxed.wasm", import.meta.url);
  if (name === "grammar") return new URL("./grammar.wasm", import.meta.url);
  return new URL("./engine_bg.wasm", import.meta.url);
}

/** What every module begins with. */
const MAGIC = [0, 0x61, 0x73, 0x6d];

const ADVICE = "Serve the package's .wasm files beside its scripts, or set wasmUrl; see docs/packaging.md";

function unreachable(url: URL, why: string): EmbergramError {
  return new EmbergramError("network", `a module of the engine could not be fetched from ${url.href} (${why}). ${ADVICE}`);
}

async function listen({ body }: Response, heard: () => void): Promise<void> {
  const reader = body?.getReader();
  while (reader && !(await reader.read()).done) heard();
}
