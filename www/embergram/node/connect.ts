/** Where the engine runs: in a thread of its own, or here. Takes the place of `../connect.ts`. */
import { proxy, wrap, type Endpoint } from "comlink";
import { connection, type ConnectOptions, type Connection, type HostApi } from "../connection.js";
import { EmbergramError } from "../error.js";
import type { EngineHost } from "../host.js";
import { passErrors } from "../rpc.js";
import { startOwn } from "./own.js";

export async function connect({ worker = true, workerUrl }: ConnectOptions): Promise<Connection> {
  if (workerUrl !== undefined) {
    throw new EmbergramError("invalid_config", "workerUrl is for pages; here the engine's script lies beside the package's. Leave it out");
  }
  if (worker === "shared") {
    throw new EmbergramError("invalid_config", 'worker: "shared" is for pages; processes share a model behind embergram serve');
  }
  if (!worker) {
    const { EngineHost } = await import("./host.js");
    return connection(new EngineHost()).connection;
  }
  const running = startOwn();
  passErrors();
  const remote = wrap<EngineHost>(running as unknown as Endpoint) as unknown as HostApi;
  const { connection: made, end } = connection(remote, (f) => proxy(f), () => running.terminate());
  running.addEventListener("error", (event) => {
    end(new EmbergramError("internal", `the engine's thread failed: ${(event as ErrorEvent).message}`));
  });
  // A model that nobody asks anything of lets the process end.
  let calls = 0;
  running.unref();
  const call: Connection["call"] = async (f) => {
    if (calls++ === 0) running.ref();
    try {
      return await made.call(f);
    } finally {
      if (--calls === 0) running.unref();
    }
  };
  return { ...made, call };
}
