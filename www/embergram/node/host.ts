/**
 * The engine's thread: an {@link EngineHost} behind comlink; or a thread of the CPU's kernels, as it is told. What imports it
 * elsewhere gets the host alone.
 */
import { parentPort, workerData } from "node:worker_threads";
import { expose, type Endpoint } from "comlink";
import { runThread, THREAD, type ThreadScope } from "../cpu/thread.js";
import { EngineHost } from "../host.js";
import { passErrors } from "../rpc.js";
import type { Role } from "./own.js";

const role = (Object(workerData) as Partial<Role>).embergram;
if (parentPort && role === THREAD) {
  runThread(parentPort as unknown as ThreadScope);
} else if (parentPort && role !== undefined) {
  passErrors();
  expose(new EngineHost(), parentPort as unknown as Endpoint);
}

export { EngineHost };
