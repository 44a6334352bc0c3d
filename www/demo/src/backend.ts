/** What would run a model here, and what would make it faster: in words. */
import type { Backend, ModelInfo, Support } from "embergram";

/** What the form asks for. */
export interface Wanted {
  backend: "auto" | Backend;
  /** Threads of the CPU backend; `undefined` leaves them to the package. */
  threads: number | undefined;
}

export interface Notice {
  title: string;
  text: string;
}

const GPU_ADVICE = "A GPU would be faster: turn on hardware acceleration in the browser’s settings, or open this page on a machine with one.";

/** The backend that a load would take; `null` where it would take none. */
export function taken({ backend }: Wanted, support: Support): Backend | null {
  if (backend === "auto") return support.backend;
  return (backend === "webgpu" ? support.webgpu : support.cpu.simd) ? backend : null;
}

/** What it would compute on. */
export function label(wanted: Wanted, support: Support): string {
  const backend = taken(wanted, support);
  if (backend === null) return "nothing here";
  return backend === "cpu" ? `CPU, ${threadsOf(wanted, support)}` : adapterLabel(support.webgpu_adapter!);
}

export function adapterLabel({ backend, name, software }: ModelInfo["adapter"]): string {
  return backend === "webgpu" ? `${name} (WebGPU${software ? ", software" : ""})` : name;
}

/** What should be known of it; `null` where there is nothing to say. */
export function notice(wanted: Wanted, support: Support): Notice | null {
  const { webgpu_adapter: adapter, cpu, reason } = support;
  const gpu = adapter !== null && !adapter.software;
  switch (taken(wanted, support)) {
    case "webgpu":
      if (gpu) return null;
      return {
        title: "This WebGPU computes on the processor.",
        text: cpu.simd ? "The text is the same, and slow: the CPU backend is several times as fast." : GPU_ADVICE,
      };
    case "cpu": {
      const text = [cpu.advice && sentence(cpu.advice), gpu ? "The GPU that is here would be faster: choose Auto or WebGPU." : GPU_ADVICE];
      return { title: `${gpu ? "T" : "No GPU here: t"}he CPU computes, with ${threadsOf(wanted, support)}.`, text: text.filter(Boolean).join(" ") };
    }
    default: {
      const other = support.backend ? "Choose another backend." : "Update the browser, or use another.";
      const why = wanted.backend === "cpu" ? "this browser has no SIMD in WebAssembly" : (reason ?? "there is neither WebGPU nor SIMD in WebAssembly");
      return { title: "Models cannot run so.", text: `${sentence(why)} ${other}` };
    }
  }
}

function threadsOf({ threads }: Wanted, { cpu }: Support): string {
  const count = cpu.shared_memory ? (threads ?? cpu.threads) : 1;
  return count === 1 ? "one thread" : `${count} threads`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
