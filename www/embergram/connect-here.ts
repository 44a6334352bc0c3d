/** The engine where the package is imported: takes the place of `connect.ts` in `embergram/here`. */
import { connection, type ConnectOptions, type Connection } from "./connection.js";
import { EmbergramError } from "./error.js";
import { EngineHost } from "./host.js";

export async function connect({ worker = false }: ConnectOptions): Promise<Connection> {
  if (worker) {
    throw new EmbergramError("invalid_config", "embergram/here runs the engine where it is imported; for a worker import embergram");
  }
  return connection(new EngineHost()).connection;
}
