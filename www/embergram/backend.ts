/** Which backend a load takes, and how it is opened. */
import { Kernels } from "./cpu/kernels.js";
import { cpuAdapter } from "./cpu/support.js";
import { THREAD } from "./cpu/thread.js";
import { Device } from "./engine/engine.js";
import { EmbergramError } from "./error.js";
import { moduleBytes, type ModuleOptions } from "./module.js";
import { startsWorkers } from "./own.js";
import type { AdapterInfo, Backend, BackendOptions, CpuSupport, EngineOptions, Support } from "./types.js";

/** A device that is open. */
export interface Opened {
  device: Device;
  /** What it is. */
  adapter: AdapterInfo;
  /** Gives its memory back. */
  close(): void;
}

/**
 * The backend that options ask for, of those that there are; `auto` takes a GPU, else the CPU with SIMD: WebGPU computed in
 * software is slower than that.
 */
export function choose({ backend = "auto", threads }: BackendOptions, support: Support): Backend {
  if (!["auto", "webgpu", "cpu"].includes(backend)) {
    throw new EmbergramError("invalid_config", `backend is ${JSON.stringify(backend)}, but must be "auto", "webgpu" or "cpu"`);
  }
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= 64)) {
    throw new EmbergramError("invalid_config", `threads is ${JSON.stringify(threads)}, but must be a whole number from 1 to 64`);
  }
  const chosen = backend === "auto" ? support.backend : backend;
  if (chosen === "webgpu" && !support.webgpu) throw new EmbergramError("no_webgpu", support.reason!);
  if (chosen === null || (chosen === "cpu" && !support.cpu.simd)) {
    const message = `this browser has no SIMD in WebAssembly, which the CPU backend needs; update it. ${support.reason ?? ""}`;
    throw new EmbergramError("no_simd", message.trim());
  }
  return chosen;
}

/** The engine's options on the backend that was chosen: `auto` does not ask a software adapter for what it does not have. */
export function optionsFor(
  chosen: Backend, { backend = "auto" }: BackendOptions, { webgpu_adapter }: Support, options: EngineOptions,
): EngineOptions {
  const lacks = chosen === "webgpu" && backend === "auto" && webgpu_adapter?.software;
  return lacks && options.precision === "fast" ? { ...options, precision: "full" } : options;
}

/** What such a load computes on. */
export function adapterOf(backend: Backend, wanted: BackendOptions, { webgpu_adapter, cpu }: Support): AdapterInfo {
  return backend === "webgpu" ? webgpu_adapter! : cpuAdapter(threadsOf(wanted, cpu), cpu.relaxed_simd);
}

function threadsOf({ threads }: BackendOptions, { shared_memory, threads: most }: CpuSupport): number {
  return shared_memory && startsWorkers() ? (threads ?? most) : 1;
}

/** Opens a backend; `start` starts a worker with the package's worker script, under a name. */
export async function open(
  backend: Backend, wanted: BackendOptions, support: Support, modules: ModuleOptions, start: (name: string) => Worker,
): Promise<Opened> {
  if (backend === "webgpu") {
    const device = await Device.open();
    return { device, adapter: support.webgpu_adapter!, close: () => release(device) };
  }
  const { relaxed_simd: relaxed } = support.cpu;
  const bytes = await moduleBytes(relaxed ? "kernels_relaxed" : "kernels", modules);
  const startThread = () => start(THREAD);
  const kernels = await Kernels.open({ bytes, relaxed, threads: threadsOf(wanted, support.cpu), startThread });
  const device = Device.cpu(kernels);
  return {
    device,
    adapter: cpuAdapter(kernels.threads(), relaxed),
    close: () => {
      release(device);
      kernels.close();
    },
  };
}

/**
 * Gives a device's memory back. Dropping buffers would not: browsers free them when they collect garbage, and the engine's
 * device layer keeps some for ever.
 */
function release(device: Device): void {
  device.destroy();
  device.free();
}
