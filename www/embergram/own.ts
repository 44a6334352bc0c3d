/** The package's own worker and module: files beside this one. `own-inline.ts` takes its place in `embergram/inline`. */

/** Starts the worker. Written out in full: this is the form by which bundlers find it. */
export function startOwn(): Worker {
  return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "embergram" });
}

/** Its address where no bundler has been at work, else that of the bundle. */
export const address: string | undefined = import.meta.url;

/** The module's bytes, gzipped, where they travel with the script. */
export function ownWasm(): Blob | undefined {
  return undefined;
}
