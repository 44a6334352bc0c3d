/** A thread of the CPU's kernels: a worker that runs its part of every step until it is stopped. */
import { instantiate } from "./instance.js";

/** The name of workers that are threads: they run the package's worker script, which goes by it. */
export const THREAD = "embergram-thread";

/** What a thread is told. */
export interface ThreadStart {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  /** Where the control block lies, and this thread's stack ends. */
  control: number;
  stack: number;
  /** Which thread it is, from 1, and how many there are. */
  thread: number;
  threads: number;
}

/** A worker's global scope, as far as a thread needs it. */
export interface ThreadScope extends EventTarget {
  name: string;
  postMessage(message: unknown): void;
}

/** Waits for its start, says that it is ready, and works. */
export function runThread(scope: ThreadScope): void {
  const start = async ({ data }: MessageEvent<ThreadStart>) => {
    const { module, memory, control, stack, thread, threads } = data;
    const kernels = await instantiate(module, memory);
    kernels.__stack_pointer.value = stack;
    scope.postMessage("ready");
    kernels.embergram_work(control, thread, threads);
  };
  scope.addEventListener("message", (event) => void start(event as MessageEvent<ThreadStart>), { once: true });
}
