/** The package's worker: an {@link EngineHost} behind comlink. */
import { expose } from "comlink";
import { EngineHost } from "./host.js";
import { passErrors } from "./rpc.js";

passErrors();
const host = new EngineHost();
// A shared worker has a port for each client, a dedicated one is its own port.
if ("onconnect" in globalThis) {
  addEventListener("connect", (event) => expose(host, (event as MessageEvent).ports[0]!));
} else {
  expose(host);
}
