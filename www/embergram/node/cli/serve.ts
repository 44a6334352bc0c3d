/** `embergram serve`: the paths of vLLM's server, for this machine alone. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { printable } from "../../../../scripts/terminal.mjs";
import { listener } from "./http.js";
import { load } from "./load.js";
import { UsageError, type Arguments } from "./options.js";

const HOST = "127.0.0.1";

export async function serve(given: Arguments): Promise<void> {
  const llm = await load(given);
  const server = createServer(listener(llm.fetch, given));
  try {
    server.listen(given.port, HOST);
    await once(server, "listening");
  } catch (error) {
    throw new UsageError(`--port ${given.port} cannot be had: ${(error as Error).message}`);
  }
  console.log(printable(`${llm.model.name} on ${llm.model.adapter.name}: http://${HOST}:${(server.address() as AddressInfo).port}/v1`));
  const end = () => void llm.unload().finally(() => process.exit());
  process.once("SIGINT", end).once("SIGTERM", end);
}
