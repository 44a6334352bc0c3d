/** The package's own worker thread and modules: files beside this one. Takes the place of `../own.ts`. */
import { isMainThread, Worker as Thread, type TransferListItem } from "node:worker_threads";
import { THREAD } from "../cpu/thread.js";
import { EmbergramError } from "../error.js";
import type { Modules } from "../module.js";

/** What `host.ts` is told that it is. */
export interface Role {
  embergram: string;
}

/** A worker thread with the face of a page's worker. */
export class ThreadWorker extends EventTarget {
  readonly #thread: Thread;

  /** @param role the engine's, or that of a thread of the kernels */
  constructor(role: string) {
    super();
    // The process's own options may name what only its main script needs.
    const thread = (this.#thread = new Thread(new URL("./node-host.js", import.meta.url), { workerData: { embergram: role } satisfies Role, execArgv: [] }));
    const fail = (message: string) => this.dispatchEvent(Object.assign(new Event("error"), { message }));
    thread.on("message", (data: unknown) => this.dispatchEvent(new MessageEvent("message", { data })));
    thread.on("error", (error: unknown) => fail(String(Object(error).message ?? error)));
    thread.on("exit", (code) => fail(`it ended with code ${code}`));
  }

  postMessage(message: unknown, transfer: readonly unknown[] = []): void {
    try {
      this.#thread.postMessage(message, transfer as TransferListItem[]);
    } catch (cause) {
      // A Blob of a file, say, which Node lets no other thread have.
      const why = `what was given cannot reach the engine's thread (${(cause as Error).message}); give a file by its path, or load with worker: false`;
      throw new EmbergramError("invalid_config", why, { cause });
    }
  }

  terminate(): void {
    void this.#thread.terminate();
  }

  /** Keeps the process alive, as a new one does. */
  ref(): void {
    this.#thread.ref();
  }

  /** Lets the process end. */
  unref(): void {
    this.#thread.unref();
  }
}

/** Starts the engine's thread, or one of the kernels', which lets the process end as soon as it is ready. */
export function startOwn(role = "embergram"): ThreadWorker {
  const worker = new ThreadWorker(role);
  if (role === THREAD) worker.addEventListener("message", () => worker.unref(), { once: true });
  return worker;
}

/** Whether this context can start threads. Deno (2.9) does not tell a thread's thread what it is. */
export function startsWorkers(): boolean {
  return isMainThread || !("Deno" in globalThis);
}

/** The modules lie in files. */
export function ownWasm(): Modules | undefined {
  return undefined;
}
