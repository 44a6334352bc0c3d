/** The CPU's kernels in a page: their memory, and an instance for each thread. The engine calls it (`crate/src/cpu/page.rs`). */
import { atMost } from "../patience.js";
import { instantiate, type KernelExports } from "./instance.js";
import { unshared } from "./shared-flag.js";
import type { ThreadStart } from "./thread.js";

const PAGE = 65536;
/** Pages that a memory may grow to, the most that there is a maximum for: some systems have less address space. */
const MAXIMA = [65536, 32768, 16384, 8192];
/** Pages at first, as the module asks for. */
const INITIAL = 32;
/** Bytes of a thread's stack, and of a control block. */
const STACK = 65536;
const CONTROL = 64;
/** What begins in memory begins at a cache line. */
const ALIGN = 64;
/** Milliseconds that threads have to start. */
const PATIENCE = 10_000;

export interface KernelOptions {
  /** The module's bytes. */
  bytes: Uint8Array<ArrayBuffer>;
  /** Whether it is the one with relaxed SIMD. */
  relaxed: boolean;
  /** Threads that are wanted, this one among them; more than one needs a memory that can be shared. */
  threads: number;
  /** Starts a thread's worker. */
  startThread: () => Worker;
}

/** See the interface `PageMemory` in `crate/src/cpu/page.rs`. */
export class Kernels {
  readonly #memory: WebAssembly.Memory;
  readonly #exports: KernelExports;
  readonly #limit: number;
  readonly #relaxed: boolean;
  readonly #control: number;
  #workers: Worker[] = [];
  #end: number;

  private constructor(memory: WebAssembly.Memory, limit: number, kernels: KernelExports, relaxed: boolean) {
    this.#memory = memory;
    this.#limit = limit;
    this.#exports = kernels;
    this.#relaxed = relaxed;
    this.#end = roundUp(Number(kernels.__heap_base.value), ALIGN);
    this.#control = this.reserve(CONTROL);
  }

  /** Instantiates the module and starts its threads; where they do not start, one thread does all. */
  static async open({ bytes, relaxed, threads, startThread }: KernelOptions): Promise<Kernels> {
    const shared = threads > 1;
    const [memory, pages] = newMemory(shared);
    const module = await WebAssembly.compile(shared ? bytes : unshared(bytes));
    const kernels = new Kernels(memory, pages * PAGE, await instantiate(module, memory), relaxed);
    if (shared) await kernels.#start(module, threads, startThread);
    return kernels;
  }

  async #start(module: WebAssembly.Module, threads: number, startThread: () => Worker): Promise<void> {
    const workers: Worker[] = [];
    let started = false;
    const starting = async () => {
      const all = Array.from({ length: threads - 1 }, (_, i) => {
        const worker = startThread();
        workers.push(worker);
        const stack = this.reserve(STACK) + STACK;
        const start: ThreadStart = { module, memory: this.#memory, control: this.#control, stack, thread: i + 1, threads };
        worker.postMessage(start);
        return new Promise((resolve, reject) => {
          worker.addEventListener("message", resolve, { once: true });
          worker.addEventListener("error", reject, { once: true });
        });
      });
      await Promise.all(all);
      started = true;
    };
    await atMost(PATIENCE, starting());
    if (started) this.#workers = workers;
    else for (const worker of workers) worker.terminate();
  }

  reserve(bytes: number): number {
    const at = this.#end;
    const end = roundUp(at + bytes, ALIGN);
    const missing = Math.ceil((end - this.#memory.buffer.byteLength) / PAGE);
    if (end > this.#limit) return -1;
    try {
      if (missing > 0) this.#memory.grow(missing);
    } catch {
      return -1;
    }
    this.#end = end;
    return at;
  }

  write(offset: number, bytes: Uint8Array): void {
    new Uint8Array(this.#memory.buffer, offset, bytes.length).set(bytes);
  }

  read(offset: number, bytes: Uint8Array): void {
    bytes.set(new Uint8Array(this.#memory.buffer, offset, bytes.length));
  }

  run(step: number): void {
    this.#exports.embergram_run(this.#control, step, this.threads());
  }

  threads(): number {
    return this.#workers.length + 1;
  }

  control(): number {
    return this.#control;
  }

  relaxed(): boolean {
    return this.#relaxed;
  }

  /**
   * Ends the threads, wherever they are. They are not told to end: Chromium forgets to stop a worker that closes itself while
   * the worker that started it is stopped.
   */
  close(): void {
    for (const worker of this.#workers) worker.terminate();
    this.#workers = [];
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

/** A memory, and how many pages it may have. */
function newMemory(shared: boolean): [WebAssembly.Memory, number] {
  let refused: unknown;
  for (const maximum of MAXIMA) {
    try {
      return [new WebAssembly.Memory({ initial: INITIAL, maximum, shared }), maximum];
    } catch (error) {
      refused = error;
    }
  }
  throw refused;
}
