/** The engine's WebAssembly module: one instance for all hosts of a context. */
import initEngine, { version } from "./engine/engine.js";
import { EmbergramError } from "./error.js";
import { SILENCE } from "./source/index.js";
import { checkVersions, VERSION } from "./version.js";

export interface ModuleOptions {
  /** Where it is; default beside this script. */
  wasmUrl?: string | undefined;
  /** The module itself, gzipped, in place of an address. */
  wasm?: Blob | undefined;
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

async function instantiate({ wasm, wasmUrl, timeout = SILENCE }: ModuleOptions): Promise<unknown> {
  if (wasm) {
    const bytes = wasm.stream().pipeThrough(new DecompressionStream("gzip"));
    return initEngine({ module_or_path: new Response(bytes, { headers: { "content-type": "application/wasm" } }) });
  }
  const url = wasmUrl === undefined ? new URL("./engine_bg.wasm", import.meta.url) : new URL(wasmUrl, globalThis.location?.href);
  const stop = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(unreachable(url, `silent for ${timeout / 1000} s`)), timeout);
  };
  try {
    heard();
    const response = await fetch(url, { signal: stop.signal });
    if (!response.ok) throw new EmbergramError("http", `${url.href}, the engine's module, was answered with ${response.status}. ${ADVICE}`);
    // The answer itself goes to the compiler, with which browsers keep what they compiled; a copy tells whether bytes come.
    const copy = response.clone();
    const listening = listen(copy, heard).then(() => clearTimeout(timer));
    const [made] = await Promise.all([initEngine({ module_or_path: response }), listening]);
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

const ADVICE = "Serve engine_bg.wasm beside the script, or set wasmUrl; see docs/packaging.md";

function unreachable(url: URL, why: string): EmbergramError {
  return new EmbergramError("network", `the engine's module could not be fetched from ${url.href} (${why}). ${ADVICE}`);
}

async function listen({ body }: Response, heard: () => void): Promise<void> {
  const reader = body?.getReader();
  while (reader && !(await reader.read()).done) heard();
}
