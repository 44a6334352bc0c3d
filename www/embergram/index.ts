export { Llm, type CallOptions, type Chat, type ChatOptions, type InspectOptions, type LoadOptions } from "./llm.js";
export { EmbergramError, type ErrorCode } from "./error.js";
export {
  counterValue, gaugeValue, histogram, histogramMean, histogramQuantile, histogramSince, sortedBuckets, speculationStats,
  type LabelFilter, type SpeculationStats,
} from "./stats.js";
export { formatTuneTable, type TuneOptions, type TuneProgress, type TuneResult, type TuneRow } from "./tune.js";
export type * as OpenAI from "./openai/types.js";
export { modelCache, type CachedModel, type ModelInput, type NameOptions } from "./source/index.js";
export type * from "./types.js";
