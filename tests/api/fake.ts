// A model that says what it is told, for the doors' own tests.
import { EmbergramError } from "../../www/embergram/error.js";
import type { Work } from "../../www/embergram/host.js";
import { serverFetch, type ServerBackend } from "../../www/embergram/openai/fetch.js";
import { chatCompletions, completions } from "../../www/embergram/openai/index.js";
import type {
  CompletionOutput, Delta, PoolingParams, RequestMetrics, RequestOutput, SamplingDefaults, SamplingParams,
} from "../../www/embergram/types.js";

const WORDS = ["Hel", "lo", "\u{fffd}", "<eos>"];
const metrics = (accepted: number[], cached = 0) =>
  ({
    num_cached_tokens: cached,
    speculative_decoding: {
      mean_acceptance_length: 0, draft_acceptance_rate: 0, acceptance_histogram: accepted, num_spec_tokens: accepted.length - 1,
      num_spec_steps: accepted.reduce((a, b) => a + b), num_accepted_draft_tokens: accepted.reduce((a, n, i) => a + n * i, 0),
      num_draft_tokens: 10,
    },
  }) as unknown as RequestMetrics;

/** Each choice: "Hel", then "lo", then an end. */
export function fake(defaults: SamplingDefaults = {}, slow = false) {
  const wait = (signal: AbortSignal | undefined) => slow && new Promise<void>((done) => {
    const timer = setTimeout(done, 1000);
    signal?.addEventListener("abort", () => (clearTimeout(timer), done()));
  });
  const seen: { work?: Work; params?: SamplingParams; signal?: AbortSignal | undefined; asked: number[][]; left: boolean; runs: number;
    prompts?: unknown; pooling?: PoolingParams } = {
    asked: [], left: false, runs: 0,
  };
  const choice = (index: number, params: SamplingParams): CompletionOutput => ({
    index, text: "Hello", token_ids: [0, 1, 3], finish_reason: "stop", stop_reason: null, error: null, metrics: metrics([1, index, 2]),
    logprobs: params.logprobs == null ? null : logprobs(params.logprobs),
  });
  const logprobs = (top: number) => [0, 1, 3].map((id) => [
    { token_id: id, logprob: -1, rank: 2 }, ...(top > 0 ? [{ token_id: 2, logprob: -0.5, rank: 1 }] : []),
  ]);
  const outputs = (work: Work, params: SamplingParams): RequestOutput[] =>
    ("chats" in work ? work.chats : work.prompts).map(() => {
      const all = Array.from({ length: params.n ?? 1 }, (_, i) => choice(i, params));
      return { prompt: null, prompt_token_ids: [7, 8, 9, 10], outputs: all, prompt_logprobs: null, metrics: metrics([1], 2) };
    });
  const backend: ServerBackend = {
    name: "the-model",
    maxModelLen: 100,
    vocabSize: 50,
    defaults,
    chatTemplate: "<tool_call>",
    async promptTokens(work) {
      Object.assign(seen, { work });
      const texts = "chats" in work ? [""] : work.prompts;
      return texts.map((prompt) => (typeof prompt === "string" ? [7, 8, 9, 10] : [...prompt]));
    },
    tokenize: async (text) => (text === "" ? [1] : [1, 7, 8]),
    detokenize: async (ids) => (ids.join() === "2" ? "\u{fffd}" : ids.join() === "1,2" ? "lo\u{e9}" : ids.map((id) => WORDS[id] ?? `<${id}>`).join("")),
    metricsText: async () => "vllm:x 1\n",
    async run(work, params, { signal }) {
      Object.assign(seen, { params, signal, runs: seen.runs + 1, prompts: "prompts" in work && work.prompts });
      await wait(signal);
      return outputs(work, params);
    },
    async embed(prompts, params) {
      Object.assign(seen, { prompts, pooling: params });
      const output = { prompt: null, prompt_token_ids: [], outputs: { embedding: Float32Array.of(0.5, -2, 1 / 3) }, metrics: null };
      return prompts.map(() => output);
    },
    async *deltas(work, params, { signal }) {
      Object.assign(seen, { params, signal, runs: seen.runs + 1 });
      const ended = outputs(work, params);
      try {
        for (const [step, text] of ["Hel", "", "lo", ""].entries()) {
          if (step > 0) await wait(signal);
          for (const [prompt, { outputs }] of ended.entries()) {
            for (const { index, logprobs } of outputs) {
              if (signal?.aborted) throw new EmbergramError("aborted", "aborted");
              const delta: Delta = {
                index, text, token_ids: [0], draft_positions: [], forced: [], stop_reason: null, error: null, metrics: null,
                finish_reason: step === 3 ? "length" : null,
                logprobs: logprobs && (step === 1 ? [] : [logprobs[step === 0 ? 0 : step - 1]!]),
              };
              yield [prompt, delta];
            }
          }
        }
        return ended;
      } finally {
        seen.left = true;
      }
    },
    async tokenTexts(ids) {
      seen.asked.push([...ids]);
      return ids.map((id) => WORDS[id]!);
    },
  };
  return { seen, backend, chat: chatCompletions(backend), text: completions(backend), fetch: serverFetch(backend) };
}

