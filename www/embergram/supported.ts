/** What this browser can run, before anything is loaded. */
import type { AdapterInfo, Support } from "./types.js";

/** WebGPU's limits that decide over a model. */
const LIMITS = ["maxBufferSize", "maxStorageBufferBindingSize", "maxStorageBuffersPerShaderStage"] as const;

const UNNAMED = "unnamed adapter";

/** Whether an adapter says more of itself than who made it. */
export function isNamed({ name, vendor }: AdapterInfo): boolean {
  return name !== UNNAMED && name !== vendor;
}

async function adapter(): Promise<GPUAdapter | null> {
  const gpu = globalThis.navigator?.gpu;
  return gpu ? await gpu.requestAdapter({ powerPreference: "high-performance" }) : null;
}

function describe(adapter: GPUAdapter): AdapterInfo {
  // Browsers of WebGPU's first years have none.
  const info: Partial<GPUAdapterInfo> = adapter.info ?? {};
  const words = [info.description, info.device, info.architecture, info.vendor].filter(Boolean);
  // Firefox and Safari say nothing of a CPU adapter but its name.
  const software = info.isFallbackAdapter === true || /swiftshader|llvmpipe|lavapipe/i.test(words.join(" "));
  return { name: words[0] ?? UNNAMED, vendor: info.vendor ?? "", architecture: info.architecture ?? "", software };
}

/** The adapter that a load would take; `null` without WebGPU. */
export async function adapterInfo(): Promise<AdapterInfo | null> {
  const found = await adapter();
  return found && describe(found);
}

/** Whether models run here, and how large they may be. Never throws. */
export async function supported(): Promise<Support> {
  if (!globalThis.navigator?.gpu) {
    const reason = globalThis.isSecureContext === false
      ? "WebGPU needs a secure context: serve the page over https or from localhost"
      : "this browser has no WebGPU; use Chrome or Edge 113, Safari 26, Firefox 141 or newer";
    return { webgpu: false, reason, adapter: null, limits: null, max_tensor_bytes: 0 };
  }
  const found = await adapter().catch(() => null);
  if (!found) {
    const reason = "WebGPU is there, but no adapter; turn hardware acceleration on, or update the graphics driver";
    return { webgpu: false, reason, adapter: null, limits: null, max_tensor_bytes: 0 };
  }
  const limits = Object.fromEntries(LIMITS.map((name) => [name, Number(found.limits[name])])) as Support["limits"] & {};
  const max_tensor_bytes = Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
  return { webgpu: true, reason: null, adapter: describe(found), limits, max_tensor_bytes };
}
