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
    // Of nothing. A module may not call it; Firefox says so only where there is something to import.
    (globalThis as unknown as { importScripts(url: string): void }).importScripts("data:text/javascript,");
    return "classic";
  } catch (error) {
    return error instanceof TypeError ? "module" : "classic";
  }
}

/** Whether this context can start workers: shared ones cannot. */
export function startsWorkers(): boolean {
  return "Worker" in globalThis;
}
