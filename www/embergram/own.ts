/** The package's own worker and module: files beside this one. `own-inline.ts` takes its place in `embergram/inline`. */

import type { Modules } from "./module.js";

/** Starts the worker. Written out in full: this is the form by which bundlers find it. */
export function startOwn(name = "embergram"): Worker {
  return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name });
}

/** Starts, or finds, the shared worker of this name. */
export function startShared(name: string): SharedWorker {
  return new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module", name });
}

/** Whether this context can start workers: shared ones and service workers cannot. */
export function startsWorkers(): boolean {
  return "Worker" in globalThis;
}

/** Its address where no bundler has been at work, else that of the bundle. */
export const address: string | undefined = import.meta.url;

/** The modules' bytes, gzipped, where they travel with the script. */
export function ownWasm(): Modules | undefined {
  return undefined;
}
