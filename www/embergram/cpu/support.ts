/** What the CPU of this context offers to kernels. */
import { relaxedSimd, simd } from "wasm-feature-detect";
import { cores } from "../platform.js";
import type { AdapterInfo, CpuSupport } from "../types.js";

/** Most threads that a load takes by itself. */
const MOST_THREADS = 8;

const HEADERS =
  "serve the page with the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp " +
  "(or credentialless): then the CPU computes with several threads";

/** Whether several threads may share a memory. Node's always may. */
function mayShare(): boolean {
  const { crossOriginIsolated: isolated, SharedArrayBuffer: shared } = globalThis;
  return shared !== undefined && isolated !== false;
}

/** All cores but one, which the page needs; of two both. */
function threadsOf(cores: number): number {
  return cores <= 2 ? cores : Math.min(cores - 1, MOST_THREADS);
}

/** What it offers. Never throws. */
export async function cpuSupport(): Promise<CpuSupport> {
  const shared = mayShare();
  const count = cores();
  const [hasSimd, hasRelaxed] = await Promise.all([simd(), relaxedSimd()]);
  return {
    simd: hasSimd,
    relaxed_simd: hasRelaxed,
    shared_memory: shared,
    threads: shared ? threadsOf(count) : 1,
    advice: shared || count === 1 ? null : HEADERS,
  };
}

/** The CPU as what a model runs on. */
export function cpuAdapter(threads: number, relaxed: boolean): AdapterInfo {
  const simd = relaxed ? "WebAssembly relaxed SIMD" : "WebAssembly SIMD";
  const many = threads === 1 ? "1 thread" : `${threads} threads`;
  return { backend: "cpu", name: `CPU, ${many}, ${simd}`, vendor: "", architecture: "wasm32", software: true, threads };
}
