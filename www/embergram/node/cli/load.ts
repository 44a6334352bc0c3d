/** Loading a model for the terminal, and the line at the end. */
import { Llm, speculationStats, type LoadProgress, type ModelInfo, type RequestMetrics, type SamplingParams } from "../index.js";
import type { Arguments } from "./options.js";

/** Loads the model; its progress goes to stderr where that is a terminal. */
export async function load({ model, load }: Arguments): Promise<Llm> {
  const { isTTY } = process.stderr;
  const llm = await Llm.load({ model, ...load, ...(isTTY && { onProgress: show }) });
  if (isTTY) process.stderr.write("\r\x1b[K");
  return llm;
}

const WORDS: Partial<Record<LoadProgress["phase"], string>> = { gpu: "opening the engine", build: "building the tokenizer", ready: "ready" };

function show({ phase, loaded, total }: LoadProgress): void {
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0);
  const line = WORDS[phase] ?? `${phase} ${megabytes(loaded)}${total === undefined ? "" : ` of ${megabytes(total)}`} MB`;
  process.stderr.write(`\r\x1b[K[load] ${line}`);
}

/** A request's parameters: what the command line says, else what the model recommends, else greedy. */
export function paramsOf({ sampling }: Arguments, { defaults }: ModelInfo, maxTokens: number): SamplingParams {
  return { max_tokens: defaults.max_tokens ?? maxTokens, temperature: defaults.temperature ?? 0, ...sampling };
}

/** Tokens a second. */
export interface Rates {
  prompt_tokens_per_second: number | null;
  decode_tokens_per_second: number | null;
}

/** How fast a request was; `null` where there was nothing to measure. */
export function ratesOf({ num_prompt_tokens, num_cached_tokens, num_generation_tokens, prefill_time, decode_time }: RequestMetrics): Rates {
  const per = (tokens: number, seconds: number | null) => (tokens > 0 && seconds ? tokens / seconds : null);
  return {
    prompt_tokens_per_second: per(num_prompt_tokens - num_cached_tokens, prefill_time),
    decode_tokens_per_second: per(num_generation_tokens - 1, decode_time),
  };
}

/** What speculation did since the load, or `null` without it. */
export async function acceptance(llm: Llm) {
  return llm.speculativeConfig && speculationStats(await llm.getMetrics());
}

/** The same in words. */
export async function summary(llm: Llm, { prompt_tokens_per_second: prompt, decode_tokens_per_second: decode }: Rates): Promise<string> {
  const rate = (n: number | null) => (n === null ? "-" : n.toFixed(1));
  const stats = await acceptance(llm);
  const accepted = stats && stats.num_drafts > 0 ? `, ${stats.num_accepted_tokens} of ${stats.num_draft_tokens} draft tokens accepted` : "";
  return `prompt ${rate(prompt)} tokens/s, decode ${rate(decode)} tokens/s${accepted}, on ${llm.model.adapter.name}`;
}
