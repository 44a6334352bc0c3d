/**
 * Whether rows keep their bits whatever shares their step is checked once for an adapter and its kernels, and remembered:
 * it takes seconds on a CPU adapter. An adapter's name does not tell its driver's version, so an answer lasts for some
 * days, and an adapter without a name gets none.
 */
import type { Engine } from "./engine/engine.js";
import { recall, remember } from "./remember.js";
import { isNamed } from "./supported.js";
import type { AdapterInfo } from "./types.js";

/**
 * Lets the engine check its kernels, or go by what is remembered. Gives what the answer is remembered by where it should be
 * checked again at leisure: the single path is right with any driver.
 */
export async function warmUp(engine: Engine, adapter: AdapterInfo): Promise<string | undefined> {
  const key = keyOf(engine, adapter);
  const known = key === undefined ? undefined : await recall(key);
  const single = await engine.warmUp(known === undefined ? undefined : known === "true");
  if (known !== undefined) return single ? undefined : key;
  if (key !== undefined) await remember(key, String(single));
  return undefined;
}

function keyOf(engine: Engine, adapter: AdapterInfo): string | undefined {
  if (!isNamed(adapter)) return undefined;
  const { name, vendor, architecture } = adapter;
  return [name, vendor, architecture, globalThis.navigator?.userAgent, engine.fingerprint()].join(" ");
}
