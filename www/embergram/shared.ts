/** A tab's way to an engine that it shares with others. */
import { proxy, wrap } from "comlink";
import { connection, type Connection, type HostApi } from "./connection.js";
import { EmbergramError } from "./error.js";
import type { LoadOptions } from "./llm.js";
import { startShared } from "./own.js";
import { passErrors } from "./rpc.js";
import { VERSION } from "./version.js";

/** Connects to the shared worker of this model and these options, which the first tab starts. */
export async function connectShared(options: LoadOptions): Promise<Connection> {
  if (!("SharedWorker" in globalThis) || !globalThis.navigator?.locks) {
    throw new EmbergramError("invalid_config", 'there are no shared workers here (Chrome on Android has none, nor have workers); leave worker: "shared" out');
  }
  const isAddress = typeof options.model === "string" || options.model instanceof URL;
  if (!isAddress || options.fetch) {
    throw new EmbergramError("invalid_config", 'with worker: "shared" model must be an address, and fetch left out: files and functions belong to one tab');
  }
  const running = start(options);
  passErrors();
  const remote = wrap<HostApi & { attach(lock: string): Promise<void> }>(running.port);
  const lock = `embergram ${crypto.randomUUID()}`;
  const leave = await held(lock);
  const { connection: made, end } = connection(remote as unknown as HostApi, (f) => proxy(f), () => {
    leave();
    running.port.close();
  });
  running.addEventListener("error", (event) => {
    const why = (event as ErrorEvent).message || "its script could not be loaded; see docs/packaging.md, or set workerUrl";
    end(new EmbergramError("internal", `the shared worker failed: ${why}`));
  });
  void made.call(() => remote.attach(lock)).catch(() => {});
  return made;
}

function start(options: LoadOptions): SharedWorker {
  const { workerUrl } = options;
  try {
    if (workerUrl === undefined) return startShared(nameOf(options));
    return new SharedWorker(new URL(workerUrl, location.href), { type: "module", name: nameOf(options) });
  } catch (error) {
    if (error instanceof EmbergramError) throw error;
    const why = (error as Error).message;
    throw new EmbergramError("invalid_config", `the shared worker cannot be started (${why}); serve worker.js from the page's own origin and set workerUrl`, { cause: error });
  }
}

/** Holds a lock until it is told to let go, or its tab is gone. */
function held(lock: string): Promise<() => void> {
  return new Promise((resolve) => void navigator.locks.request(lock, () => new Promise<void>((letGo) => resolve(letGo))));
}

/** What tabs share a worker by: the model, and all that changes what its engine does. */
function nameOf(options: LoadOptions): string {
  const {
    model, baseUrl = location.href, worker, workerUrl, wasmUrl, onProgress, signal, fetch, retries, retryDelay, timeout, fallback, ...same
  } = options;
  const text = String(model);
  const address = text.startsWith("hf:") ? text : new URL(text, baseUrl).href;
  const told = Object.entries(same).filter(([, value]) => value !== undefined).sort(([a], [b]) => (a < b ? -1 : 1));
  return `embergram ${JSON.stringify([VERSION, address, ...told])}`;
}
