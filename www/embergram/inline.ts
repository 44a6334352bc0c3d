/** The package with its worker and module inside: no further file is fetched but the model. */
export * from "./index.js";
