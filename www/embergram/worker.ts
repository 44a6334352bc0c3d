/** The package's worker: an {@link EngineHost} behind comlink; or a thread of the CPU's kernels, by its name. */
import { expose } from "comlink";
import { runThread, THREAD, type ThreadScope } from "./cpu/thread.js";
import { EngineHost } from "./host.js";
import { passErrors } from "./rpc.js";
import { SharedEngine } from "./shared-host.js";

const scope = globalThis as unknown as ThreadScope;
if (scope.name === THREAD) {
  runThread(scope);
} else {
  passErrors();
  // A shared worker has a port for each client, a dedicated one is its own port.
  if ("onconnect" in scope) {
    const engine = new SharedEngine(() => globalThis.close());
    addEventListener("connect", (event) => engine.join((event as MessageEvent).ports[0]!));
  } else {
    expose(new EngineHost());
  }
}
