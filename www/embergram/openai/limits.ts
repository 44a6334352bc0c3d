/** The ranges of sampling parameters, in the words of vLLM's `SamplingParams`. The engine checks them again, in its own. */
import type { SamplingParams } from "../types.js";
import { invalid } from "./errors.js";
import { float, str } from "./python.js";
import type { Target } from "./request.js";

/** Most sequences of one prompt. */
const MOST = 128;

/** Refuses what vLLM refuses. */
export function checkSampling(params: SamplingParams & { n: number }, { defaults, vocabSize }: Pick<Target, "defaults" | "vocabSize">): void {
  const all = { temperature: 1, top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0, min_tokens: 0, ...defaults, ...params };
  const { n, temperature, top_p, top_k, min_p, repetition_penalty, min_tokens, max_tokens, logprobs, prompt_logprobs, stop, stop_token_ids, logit_bias, allowed_token_ids, bad_words } = all;
  if (n < 1) throw invalid(`n must be at least 1, got ${n}.`);
  if (n > MOST) throw invalid(`n must be at most ${MOST}, got ${n}.`);
  for (const name of ["presence_penalty", "frequency_penalty"] as const) {
    if (Math.abs(all[name]) > 2) throw invalid(`${name} must be in [-2, 2], got ${float(all[name])}.`);
  }
  if (repetition_penalty <= 0) throw invalid(`repetition_penalty must be greater than zero, got ${float(repetition_penalty)}.`);
  if (temperature < 0) throw invalid(`temperature must be non-negative, got ${float(temperature)}.`, "temperature", float(temperature));
  if (temperature > 2) throw invalid(`temperature must be in [0, 2], got ${float(temperature)}.`, "temperature", float(temperature));
  if (!(top_p > 0 && top_p <= 1)) throw invalid(`top_p must be in (0, 1], got ${float(top_p)}.`, "top_p", float(top_p));
  if (top_k < -1) throw invalid(`top_k must be 0 (disable), or at least 1, got ${top_k}.`);
  if (!(min_p >= 0 && min_p <= 1)) throw invalid(`min_p must be in [0, 1], got ${float(min_p)}.`);
  if (max_tokens != null && max_tokens < 1) throw invalid(`max_tokens must be at least 1, got ${max_tokens}.`, "max_tokens", `${max_tokens}`);
  if (min_tokens < 0) throw invalid(`min_tokens must be greater than or equal to 0, got ${min_tokens}.`);
  if (max_tokens != null && min_tokens > max_tokens) throw invalid(`min_tokens must be less than or equal to max_tokens=${max_tokens}, got ${min_tokens}.`);
  if (stop === "" || (Array.isArray(stop) && stop.includes(""))) throw invalid("stop cannot contain an empty string.");
  if (temperature === 0 && n > 1) throw invalid(`n must be 1 when using greedy sampling, got ${n}.`);
  if (bad_words?.includes("")) throw invalid(`bad_words cannot contain an empty string. Got bad_words=${str(bad_words)}`);
  for (const [name, what, count] of [["logprobs", "sample", logprobs], ["prompt_logprobs", "prompt", prompt_logprobs]] as const) {
    // -1 asks for the whole vocabulary.
    const asked = count === -1 ? vocabSize : (count ?? 0);
    if (asked > 20) throw invalid(`Requested ${what} logprobs of ${asked}, which is greater than max allowed: 20`, name, `${asked}`);
  }
  for (const [name, ids] of [["logit_bias", Object.keys(logit_bias ?? {}).map(Number)], ["stop_token_ids", stop_token_ids ?? []]] as const) {
    const beyond = ids.filter((id) => id < 0 || id >= vocabSize);
    if (beyond.length === 0) continue;
    const shown = `[${beyond.join(", ")}]`;
    throw invalid(`token_id(s) ${shown} in ${name} contain out-of-vocab token ids. Vocabulary size: ${vocabSize}`, name, shown);
  }
  if (allowed_token_ids == null) return;
  const beyond = allowed_token_ids.filter((id) => id < 0 || id >= vocabSize);
  if (allowed_token_ids.length === 0) throw invalid("allowed_token_ids is not None and empty!", "allowed_token_ids", "[]");
  if (beyond.length > 0) throw invalid("allowed_token_ids contains out-of-vocab token id!", "allowed_token_ids", str(beyond));
}
