/** The facade's end of a host, wherever that is. */
import { EmbergramError, asEmbergramError, unloadedError } from "./error.js";
import type { EngineHost } from "./host.js";
import type { Modules } from "./module.js";
import { ownWasm } from "./own.js";
import { atMost } from "./patience.js";

/** The host's methods, which all return promises, so that a worker's look the same. */
export type HostApi = Pick<
  EngineHost,
  | "load" | "inspect" | "download" | "check" | "run" | "embed" | "cancel" | "promptTokens" | "tokenize" | "detokenize" | "tokenTexts" | "metrics" | "metricsText" | "resetMetrics"
  | "setSpeculativeConfig" | "unload"
>;

export interface Connection {
  /** Calls the host; rejects too when the worker fails or the connection is closed. */
  call<T>(f: (host: HostApi) => Promise<T>): Promise<T>;
  /** Makes a function, or an object of functions, that the host may call. */
  callback<F extends object>(f: F): F;
  /** The modules, where they came with the script. */
  wasm: Modules | undefined;
  /** Resolves when the host is of no more use, by what a call or its worker tells; never with {@link Connection.close}. */
  lost: Promise<EmbergramError>;
  /** Unloads the host and stops its worker; calls under way reject. One that does not answer is stopped in a moment. */
  close(): Promise<void>;
}

export interface ConnectOptions {
  /**
   * `true`: a worker of its own. `"shared"`: one that all tabs of the origin share that load the same model with the same options:
   * one engine, one queue, one memory; a tab that goes takes its calls with it, and the last one the engine.
   * `false` runs the engine in the calling context: for use inside a worker. Default true. In a service worker import from
   * `embergram/here`, where it is always so.
   */
  worker?: boolean | "shared" | undefined;
  /** Where the worker's script is; default beside this one. In pages alone. */
  workerUrl?: string | URL | undefined;
}

/** Milliseconds that a host has to unload: longer than it waits itself. */
const PATIENCE = 3000;

const closing = new Set<Promise<void>>();

/** Waits for the connections that are being closed: they hold memory, and the locks of the cache. */
export async function closed(): Promise<void> {
  await Promise.all(closing);
}

export function connection(host: HostApi, callback: Connection["callback"] = (f) => f, stop = () => {}) {
  let ended: EmbergramError | undefined;
  let close: Promise<void> | undefined;
  const open = new Set<(error: EmbergramError) => void>();
  let tell = (_: EmbergramError) => {};
  const lost = new Promise<EmbergramError>((resolve) => (tell = resolve));
  const end = (error: EmbergramError) => {
    if (!close) tell(error);
    ended ??= error;
    for (const reject of open) reject(ended);
    open.clear();
    stop();
  };
  const call = <T>(f: (host: HostApi) => Promise<T>) =>
    new Promise<T>((resolve, reject) => {
      if (ended) return reject(ended);
      open.add(reject);
      const fail = (thrown: unknown) => {
        const error = asEmbergramError(thrown);
        if (error.code === "device_lost" && !close) tell(error);
        // A caller's mistake may be an internal error too.
        if (error.code === "internal" && !close) void host.check().catch(tell);
        reject(error);
      };
      f(host).then(resolve, fail).finally(() => open.delete(reject));
    });
  const unload = async () => {
    await atMost(PATIENCE, call((host) => host.unload()));
    end(unloadedError());
  };
  const made: Connection = {
    call,
    callback,
    wasm: ownWasm(),
    lost,
    close: () => {
      if (!close) {
        const running = (close = unload().finally(() => closing.delete(running)));
        closing.add(running);
      }
      return close;
    },
  };
  return { connection: made, end };
}
