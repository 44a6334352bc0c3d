/** The package under Node, Deno and Bun: the engine in a worker thread, models by path, the cache in a folder. */
export * from "../index.js";
