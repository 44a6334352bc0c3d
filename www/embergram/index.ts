export { Llm, type CallOptions, type Chat, type ChatOptions, type Fallback, type InspectOptions, type LoadOptions } from "./llm.js";
export { EmbergramError, type ErrorCode } from "./error.js";
export {
  counterValue, gaugeValue, histogram, histogramMean, histogramQuantile, histogramSince, sortedBuckets, speculationStats,
  type LabelFilter, type SpeculationStats,
} from "./stats.js";
export { formatTuneTable, type TuneOptions, type TuneProgress, type TuneResult, type TuneRow } from "./tune.js";
export type { ServerOptions } from "./remote/server.js";
export type * as OpenAITypes from "./openai/types.js";
export { modelCache, type KeepOptions } from "./model-cache.js";
export type { CachedModel, DownloadOptions, ModelInput, NameOptions } from "./source/index.js";
export type * from "./types.js";
