export { besideModel } from "./files.js";
export { openHeads, type ModelHead, type ModelHeads } from "./heads.js";
export { openModel, whole, type ModelPart, type DownloadOptions, type ModelSource, type OpenOptions } from "./open.js";
export { keptModels, type CachedModel } from "./model-cache.js";
export { splitOf, type ModelInput, type NameOptions } from "./names.js";
export type { Progress, ProgressPhase } from "./progress.js";
export { RestartLoad } from "./remote.js";
export { SILENCE } from "./wait.js";
