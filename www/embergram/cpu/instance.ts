/** An instance of the kernels' module: one thread's. */

/** What it exports (`crate/kernels/wasm`). */
export interface KernelExports {
  __heap_base: WebAssembly.Global;
  __stack_pointer: WebAssembly.Global;
  embergram_run(control: number, step: number, threads: number): void;
  embergram_work(control: number, thread: number, threads: number): void;
}

/** Instantiates it on a memory. */
export async function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<KernelExports> {
  let waits = true;
  const words = () => new Int32Array(memory.buffer);
  const env = {
    memory,
    wait: (address: number, value: number) => {
      if (!waits) return;
      try {
        Atomics.wait(words(), address >>> 2, value);
      } catch {
        // A page's own thread may not wait: it looks again and again.
        waits = false;
      }
    },
    notify: (address: number) => void Atomics.notify(words(), address >>> 2),
  };
  const instance = await WebAssembly.instantiate(module, { env });
  return instance.exports as unknown as KernelExports;
}
