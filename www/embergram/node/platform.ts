/** What Node offers in another way than a browser. Takes the place of `../platform.ts`. */
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";

export { localFiles } from "./local-files.js";

/** The cores that this process may use. */
export function cores(): number {
  return availableParallelism();
}

/** The engine takes the CPU here, also where a runtime has WebGPU. */
export function gpu(): GPU | undefined {
  return undefined;
}

/** Why there is no WebGPU. */
export const NO_WEBGPU = "WebGPU is for pages; outside a browser the CPU computes";

/** Reads a module of the engine from its file, or fetches it. */
export async function fetchModule(url: URL, init: RequestInit): Promise<Response> {
  if (url.protocol !== "file:") return fetch(url, init);
  try {
    return new Response(await readFile(url), { headers: { "content-type": "application/wasm" } });
  } catch (cause) {
    // As a fetch speaks of what it does not reach.
    throw new TypeError((cause as Error).message, { cause });
  }
}
