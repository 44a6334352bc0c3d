export { Llm, type CallOptions, type LoadOptions } from "./llm.js";
export { EmbergramError, type ErrorCode } from "./error.js";
export type * from "./types.js";
