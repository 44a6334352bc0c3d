/** What a browser and Node offer in different ways. `node/platform.ts` takes its place in the package for Node. */
import type { ModelInput, NameOptions } from "./source/names.js";

/** The processor's cores, as far as they are told. */
export function cores(): number {
  return globalThis.navigator?.hardwareConcurrency || 1;
}

/** WebGPU's door. */
export function gpu(): GPU | undefined {
  return globalThis.navigator?.gpu;
}

/** Why there is no WebGPU. */
export const NO_WEBGPU = "this browser has no WebGPU; use Chrome or Edge 113, Safari 26, Firefox 141 or newer";

/** Fetches a module of the engine. */
export function fetchModule(url: URL, init: RequestInit): Promise<Response> {
  return fetch(url, init);
}

/** The files that a path names: a page has none. */
export async function localFiles(_input: ModelInput, _options: NameOptions): Promise<readonly Blob[] | undefined> {
  return undefined;
}
