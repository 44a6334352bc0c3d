/**
 * The package's worker, inside itself. It takes the place of `own.ts` in `worker.js`: a bundler that follows the address of a worker
 * into that very worker may never end, as Next.js 16 does.
 */

/** Starts another one of its kind. */
export function startOwn(name = "embergram"): Worker {
  return new Worker(globalThis.location.href, { type: type(), name });
}

/** What this worker was started as: a bundler may have made a classic script of it. */
function type(): WorkerType {
  try {
    // With nothing to import it does nothing, but a module may not call it.
    (globalThis as unknown as { importScripts(): void }).importScripts();
    return "classic";
  } catch {
    return "module";
  }
}

/** Whether this context can start workers: shared ones cannot. */
export function startsWorkers(): boolean {
  return "Worker" in globalThis;
}
