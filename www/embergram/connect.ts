/** Where the engine runs: a worker of its own, or here. Both look the same to the facade. */
import { proxy, wrap } from "comlink";
import { EmbergramError } from "./error.js";
import type { EngineHost } from "./host.js";
import { passErrors } from "./rpc.js";

/** The host's methods, which all return promises, so that a worker's look the same. */
export type HostApi = Pick<
  EngineHost,
  | "load" | "run" | "cancel" | "tokenize" | "detokenize" | "tokenTexts" | "metrics" | "metricsText" | "resetMetrics"
  | "setSpeculativeConfig" | "unload"
>;

export interface Connection {
  host: HostApi;
  /** Makes a callback that the host may call. */
  callback<F extends (...args: never[]) => void>(f: F): F;
  /** Rejects when the worker fails; else never settles. */
  failed: Promise<never>;
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
    return { host: new EngineHost(), callback: (f) => f, failed: new Promise(() => {}), close: () => {} };
  }
  const running = start(workerUrl);
  passErrors();
  const failed = new Promise<never>((_, reject) => {
    running.addEventListener("error", (event) => {
      const why = event.message || "its script could not be loaded; see docs/packaging.md, or set workerUrl";
      reject(new EmbergramError("internal", `the engine's worker failed: ${why}`));
    });
  });
  failed.catch(() => {});
  return {
    host: wrap<EngineHost>(running) as unknown as HostApi,
    callback: (f) => proxy(f),
    failed,
    close: () => running.terminate(),
  };
}

function start(url: string | URL | undefined): Worker {
  if (url === undefined && new URL(import.meta.url).origin === globalThis.location?.origin) {
    // Written out in full: this is the form that bundlers find.
    return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "embergram" });
  }
  const script = new URL(url ?? new URL("./worker.js", import.meta.url), globalThis.location?.href);
  if (script.origin === globalThis.location?.origin) {
    return new Worker(script, { type: "module", name: "embergram" });
  }
  // A worker's script must come from the page's own origin: a line of script there imports the one from the CDN.
  const bootstrap = new Blob([`import ${JSON.stringify(script.href)};`], { type: "text/javascript" });
  const blobUrl = URL.createObjectURL(bootstrap);
  const running = new Worker(blobUrl, { type: "module", name: "embergram" });
  setTimeout(() => URL.revokeObjectURL(blobUrl), 60_000);
  return running;
}
