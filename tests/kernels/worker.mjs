// A thread of the kernels: one instance on the memory that all share.
import { parentPort, workerData } from "node:worker_threads";

const { module, memory, stack, control, thread, threads } = workerData;
const words = new Int32Array(memory.buffer);
const env = {
  memory,
  wait: (address, value) => void Atomics.wait(words, address / 4, value),
  notify: (address) => void Atomics.notify(words, address / 4),
};
const { exports } = await WebAssembly.instantiate(module, { env });
exports.__stack_pointer.value = stack;
parentPort.postMessage("ready");
exports.embergram_work(control, thread, threads);
