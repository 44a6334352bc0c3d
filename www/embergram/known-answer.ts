/**
 * Some drivers compute nonsense. What each kernel makes of one row is held to plain arithmetic once for an adapter and its kernels,
 * and remembered, as the row check is: see row-check.ts. A GPU that fails it is not taken again for some days.
 */
import type { Engine } from "./engine/engine.js";
import { recall, remember } from "./remember.js";
import { isNamed } from "./supported.js";
import type { AdapterInfo } from "./types.js";
import { VERSION } from "./version.js";

/** Why a load on WebGPU ended; the message is the kernel's name. */
export class WrongKernel extends Error {}

/** The name of the first kernel that the adapter computes wrongly, if any. */
export async function wrongKernel(engine: Engine, adapter: AdapterInfo): Promise<string | undefined> {
  if (adapter.backend !== "webgpu") return undefined;
  const key = isNamed(adapter) ? `${distrust(adapter)} ${engine.fingerprint()}` : undefined;
  const known = key === undefined ? undefined : await recall(key);
  if (known === "") return undefined;
  const wrong = await engine.knownAnswer();
  if (key !== undefined && wrong === undefined) await remember(key, "");
  if (key !== undefined && wrong !== undefined) await remember(distrust(adapter), wrong);
  return wrong;
}

/** The kernel that this adapter is remembered to compute wrongly. */
export async function distrusted(adapter: AdapterInfo): Promise<string | undefined> {
  return isNamed(adapter) ? recall(distrust(adapter)) : undefined;
}

/** What is said of it, for a bug report. */
export function complaint(adapter: AdapterInfo, kernel: string): string {
  return `the WebGPU adapter "${adapter.name}" (${[adapter.vendor, adapter.architecture].filter(Boolean).join(", ")}) computes the kernel ${kernel} wrongly; please report it with this line: embergram ${VERSION}, ${globalThis.navigator?.userAgent ?? ""}`;
}

function distrust({ name, vendor, architecture }: AdapterInfo): string {
  return ["wrong kernel", name, vendor, architecture, globalThis.navigator?.userAgent, VERSION].join(" ");
}
