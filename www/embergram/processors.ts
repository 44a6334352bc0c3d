/** vLLM's `logits_processors`: functions stay with their caller, whom the host asks what they make of a row. */
import { EmbergramError } from "./error.js";
import type { SamplingParams } from "./types.js";

/** What the functions of a call make of the logits that follow so many tokens of one of its prompts. */
export type Process = (prompt: number, outputIds: Uint32Array, logits: Float32Array, promptIds: Uint32Array) => Promise<Float32Array>;

/** Parameters that may cross to a host, and their functions, where there are any. */
export function withoutFunctions<P extends SamplingParams | readonly SamplingParams[]>(params: P): { params: P; process?: Process } {
  const all = [params].flat() as readonly (SamplingParams | undefined)[];
  if (all.every((own) => own?.logits_processors == null)) return { params };
  for (const own of all) {
    const given: unknown = own?.logits_processors ?? [];
    if (!Array.isArray(given) || given.some((f) => typeof f !== "function")) {
      throw new EmbergramError("invalid_params", "logits_processors must be a list of functions: [(outputIds, logits) => ...]");
    }
  }
  const processors = all.map((own) => own?.logits_processors ?? []);
  const plain = all.map((own) => own && { ...own, logits_processors: null });
  return {
    params: (Array.isArray(params) ? plain : plain[0]) as P,
    async process(prompt, outputIds, logits, promptIds) {
      for (const f of processors[Array.isArray(params) ? prompt : 0] ?? []) logits = (await f(outputIds, logits, promptIds)) ?? logits;
      return logits;
    },
  };
}
