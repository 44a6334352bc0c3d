/** What this browser can run, before anything is loaded. */
import { distrusted } from "./known-answer.js";
import { cpuAdapter, cpuSupport } from "./cpu/support.js";
import { gpu, NO_WEBGPU } from "./platform.js";
import type { AdapterInfo, Support } from "./types.js";

/** WebGPU's limits that decide over a model. */
const LIMITS = ["maxBufferSize", "maxStorageBufferBindingSize", "maxStorageBuffersPerShaderStage"] as const;

const UNNAMED = "unnamed adapter";

/** Whether an adapter says more of itself than who made it. */
export function isNamed({ name, vendor }: AdapterInfo): boolean {
  return name !== UNNAMED && name !== vendor;
}

async function adapter(): Promise<GPUAdapter | null> {
  return (await gpu()?.requestAdapter({ powerPreference: "high-performance" })) ?? null;
}

function describe(adapter: GPUAdapter): AdapterInfo {
  // Browsers of WebGPU's first years have none.
  const info: Partial<GPUAdapterInfo> = adapter.info ?? {};
  const words = [info.description, info.device, info.architecture, info.vendor].filter(Boolean);
  // Firefox and Safari say nothing of a CPU adapter but its name.
  const software = info.isFallbackAdapter === true || /swiftshader|llvmpipe|lavapipe/i.test(words.join(" "));
  return { backend: "webgpu", name: words[0] ?? UNNAMED, vendor: info.vendor ?? "", architecture: info.architecture ?? "", software };
}

/** What runs models here, and how large they may be. Never throws. */
export async function supported(): Promise<Support> {
  const [ofGpu, cpu] = await Promise.all([webgpu(), cpuSupport()]);
  const { webgpu_adapter: adapter } = ofGpu;
  const ofCpu = cpu.simd ? cpuAdapter(cpu.threads, cpu.relaxed_simd) : null;
  // WebGPU that computes on the CPU is slower than SIMD, and one that computes wrongly is worth nothing.
  const chosen = adapter && !adapter.software && adapter.wrong_kernel === undefined ? adapter : (ofCpu ?? adapter);
  return { backend: chosen?.backend ?? null, adapter: chosen, ...ofGpu, cpu };
}

async function webgpu(): Promise<Omit<Support, "backend" | "adapter" | "cpu">> {
  const without = (reason: string) => ({ webgpu: false, reason, webgpu_adapter: null, limits: null, max_tensor_bytes: 0 });
  if (!gpu()) {
    return without(
      globalThis.isSecureContext === false
        ? "WebGPU needs a secure context: serve the page over https or from localhost"
        : NO_WEBGPU,
    );
  }
  const found = await adapter().catch(() => null);
  if (!found) return without("WebGPU is there, but no adapter; turn hardware acceleration on, or update the graphics driver");
  const limits = Object.fromEntries(LIMITS.map((name) => [name, Number(found.limits[name])])) as Support["limits"] & {};
  const max_tensor_bytes = Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
  const described = describe(found);
  const wrong_kernel = await distrusted(described);
  const webgpu_adapter = { ...described, ...(wrong_kernel !== undefined && { wrong_kernel }) };
  return { webgpu: true, reason: null, webgpu_adapter, limits, max_tensor_bytes };
}
