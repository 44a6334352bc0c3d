/** Worker and module as part of the script, for bundlers that carry no files along: `embergram/inline`. */
import script from "embedded:worker";
import engine from "embedded:engine_bg";
import grammar from "embedded:grammar";
import kernels from "embedded:kernels";
import relaxed from "embedded:kernels_relaxed";
import { EmbergramError } from "./error.js";
import type { Modules } from "./module.js";
import { startText } from "./start.js";

/** Starts the worker. */
export function startOwn(name?: string): Worker {
  return startText(script, name);
}

/** A worker that is no file is each tab's own. */
export function startShared(): never {
  throw new EmbergramError("invalid_config", "embergram/inline carries its worker along, which tabs cannot share; import embergram, or leave worker: \"shared\" out");
}

/** Whether this context can start workers. */
export function startsWorkers(): boolean {
  return "Worker" in globalThis;
}

/** There are no files beside this one. */
export const address: string | undefined = undefined;

/** The modules' bytes, gzipped. */
export function ownWasm(): Modules | undefined {
  const blob = (base64: string) => new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))]);
  return { engine_bg: blob(engine), kernels: blob(kernels), kernels_relaxed: blob(relaxed), grammar: blob(grammar) };
}
