/** Worker and module as part of the script, for bundlers that carry no files along: `embergram/inline`. */
import script from "embedded:worker";
import wasm from "embedded:wasm";
import { startText } from "./start.js";

/** Starts the worker. */
export function startOwn(): Worker {
  return startText(script);
}

/** There are no files beside this one. */
export const address: string | undefined = undefined;

/** The module's bytes, gzipped. */
export function ownWasm(): Blob | undefined {
  return new Blob([Uint8Array.from(atob(wasm), (c) => c.charCodeAt(0))]);
}
