/** Where the engine runs: a worker of its own, or here. Both look the same to the facade. */
import { proxy, wrap } from "comlink";
import { connection, type Connection, type HostApi } from "./connection.js";
import { EmbergramError } from "./error.js";
import type { EngineHost } from "./host.js";
import type { LoadOptions } from "./llm.js";
import { address, startOwn } from "./own.js";
import { passErrors } from "./rpc.js";
import { connectShared } from "./shared.js";
import { startAt } from "./start.js";

export async function connect(options: LoadOptions): Promise<Connection> {
  const { worker = true, workerUrl } = options;
  // A service worker can neither start workers nor import anything once it runs.
  const service = "ServiceWorkerGlobalScope" in globalThis;
  if (service) throw new EmbergramError("invalid_config", "a service worker cannot start workers; import from embergram/here");
  const known: unknown = worker;
  if (known !== "shared" && typeof known !== "boolean") {
    throw new EmbergramError("invalid_config", `worker is ${JSON.stringify(known)}, but must be true, false or "shared"`);
  }
  if (worker === "shared") return connectShared(options);
  if (!worker || !globalThis.Worker) {
    const { EngineHost } = await import("./host.js");
    return connection(new EngineHost()).connection;
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
