/** The package with the engine where it is imported: for service workers, which can neither start workers nor import later. */
export * from "./index.js";
