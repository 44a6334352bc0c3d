/** Where the engine runs: a worker of its own, or here. Both look the same to the facade. */
import { proxy, wrap } from "comlink";
import { EmbergramError, asEmbergramError, unloadedError } from "./error.js";
import type { EngineHost } from "./host.js";
import { address, ownWasm, startOwn } from "./own.js";
import { passErrors } from "./rpc.js";
import { startAt } from "./start.js";
import { supported } from "./supported.js";

/** The host's methods, which all return promises, so that a worker's look the same. */
export type HostApi = Pick<
  EngineHost,
  | "load" | "run" | "cancel" | "tokenize" | "detokenize" | "tokenTexts" | "metrics" | "metricsText" | "resetMetrics"
  | "setSpeculativeConfig" | "unload"
>;

export interface Connection {
  /** Calls the host; rejects too when the worker fails or the connection is closed. */
  call<T>(f: (host: HostApi) => Promise<T>): Promise<T>;
  /** Makes a function, or an object of functions, that the host may call. */
  callback<F extends object>(f: F): F;
  /** The engine's module, where it came with the script. */
  wasm: Blob | undefined;
  /** Stops the worker; calls under way reject. */
  close(): void;
}

export interface ConnectOptions {
  /** `false` runs the engine in the calling context: for use inside a worker. Default true. */
  worker?: boolean | undefined;
  /** Where the worker's script is; default beside this one. */
  workerUrl?: string | URL | undefined;
}

export async function connect({ worker = true, workerUrl }: ConnectOptions): Promise<Connection> {
  if (!worker) {
    const { EngineHost } = await import("./host.js");
    return connection(new EngineHost(), (f) => f, () => {}).connection;
  }
  if (!globalThis.Worker) {
    const { webgpu, reason } = await supported();
    if (!webgpu) throw new EmbergramError("no_webgpu", reason ?? "there is no WebGPU");
    throw new EmbergramError("invalid_config", "this context cannot start workers; load with worker: false");
  }
  const running = start(workerUrl);
  passErrors();
  const remote = wrap<EngineHost>(running) as unknown as HostApi;
  const { connection: made, end } = connection(remote, (f) => proxy(f), () => running.terminate());
  running.addEventListener("error", (event) => {
    const why = event.message || "its script could not be loaded; see docs/packaging.md, or set workerUrl";
    end(new EmbergramError("internal", `the engine's worker failed: ${why}`));
  });
  return made;
}

function connection(host: HostApi, callback: Connection["callback"], stop: () => void) {
  let ended: EmbergramError | undefined;
  const open = new Set<(error: EmbergramError) => void>();
  const end = (error: EmbergramError) => {
    ended ??= error;
    for (const reject of open) reject(ended);
    open.clear();
    stop();
  };
  const call = <T>(f: (host: HostApi) => Promise<T>) =>
    new Promise<T>((resolve, reject) => {
      if (ended) return reject(ended);
      open.add(reject);
      f(host).then(resolve, (error) => reject(asEmbergramError(error))).finally(() => open.delete(reject));
    });
  return { connection: { call, callback, wasm: ownWasm(), close: () => end(unloadedError()) }, end };
}

function start(url: string | URL | undefined): Worker {
  try {
    if (url !== undefined) return startAt(new URL(url, globalThis.location?.href));
    // Bundlers replace the address, or know the file under another name: only a script that came by HTTP from another
    // origin lies beside its worker for sure.
    const cdn = /^https?:/.test(address ?? "") && new URL(address!).origin !== globalThis.location?.origin;
    return cdn ? startAt(new URL("worker.js", address)) : startOwn();
  } catch (error) {
    throw new EmbergramError(
      "invalid_config",
      `the engine's worker cannot be started (${(error as Error).message}); set workerUrl, or import embergram/inline`,
      { cause: error },
    );
  }
}
