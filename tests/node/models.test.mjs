// The CPU backend in Node against what vLLM and transformers recorded, and against itself.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hfFolder } from "../support/hf-folder.mjs";
import { golden, Llm, MODEL, TINY } from "./harness.mjs";

const COUNTERS = [
  "vllm:spec_decode_num_drafts", "vllm:spec_decode_num_draft_tokens", "vllm:spec_decode_num_accepted_tokens",
  "vllm:spec_decode_num_accepted_tokens_per_pos",
];
// All five take minutes.
const prompts = golden("vllm_golden.json").runs[5].prompts.slice(0, 3);

describe("SmolLM2", () => {
  let llm;
  beforeAll(async () => {
    const { config, max_model_len } = golden("vllm_golden.json").runs[5];
    llm = await Llm.load({ model: MODEL, max_model_len, ...config });
  });
  afterAll(() => llm?.unload());

  test.each(prompts)("$name: vLLM's tokens and counters", async ({ prompt_token_ids, output_token_ids, text, finish_reason, spec_metrics_cumulative }) => {
    const [{ outputs: [output] }] = await llm.generate([prompt_token_ids], { temperature: 0, max_tokens: 128 });
    expect(output).toMatchObject({ token_ids: output_token_ids, text, finish_reason });
    const metrics = await llm.getMetrics();
    const values = (all) => COUNTERS.map((name) => all.find((metric) => metric.name === name)).map(({ value, values }) => value ?? values);
    expect(values(metrics)).toEqual(values(spec_metrics_cumulative));
  });

  test("says what it runs on", () => {
    const { adapter } = llm.model;
    expect(adapter).toMatchObject({ backend: "cpu", architecture: "wasm32" });
    expect(adapter.threads).toBeGreaterThanOrEqual(1);
  });

  test("the process stays responsive, and an abort ends a call", async () => {
    let ticks = 0;
    const timer = setInterval(() => (ticks += 1), 10);
    const stop = new AbortController();
    const calls = llm.generate("Once upon a time", { max_tokens: 400, ignore_eos: true, temperature: 0 }, { signal: stop.signal });
    setTimeout(() => stop.abort(), 500);
    await expect(calls).rejects.toMatchObject({ code: "aborted" });
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(20);
    const [{ outputs }] = await llm.generate("One, two,", { max_tokens: 2, temperature: 0 });
    expect(outputs[0].token_ids).toHaveLength(2);
  });
});

test.each(["gemma3", "granite", "llama3", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"])("%s: the tokens that transformers recorded", async (name) => {
  const { token_ids, greedy_from_first_12 } = golden(`models/${name}/golden.json`);
  const llm = await Llm.load({ model: hfFolder(name), max_model_len: 64 });
  const [{ outputs: [output] }] = await llm.generate([token_ids.slice(0, 12)], { temperature: 0, max_tokens: 32, ignore_eos: true });
  await llm.unload();
  expect(llm.model.name).toBe(name);
  expect(output.token_ids).toEqual(greedy_from_first_12.slice(12));
});

/** Sampled tokens with their probabilities, which tell of every bit. */
async function sampled(options) {
  const llm = await Llm.load({ model: TINY, max_model_len: 128, ...options });
  const params = { max_tokens: 40, temperature: 0.8, seed: 7, logprobs: 5, ignore_eos: true, n: 3 };
  const outputs = await llm.generate(["the cat the cat the cat", "one two three one two three one"], params);
  const { threads } = llm.model.adapter;
  await llm.unload();
  return { threads, said: outputs.flatMap((o) => o.outputs).map(({ token_ids, logprobs }) => ({ token_ids, logprobs })) };
}

test("the same bits with 1, 2 and 3 threads, here and in a thread, with and without speculation", async () => {
  const speculative_config = { method: "ngram", num_speculative_tokens: 4, prompt_lookup_min: 1, prompt_lookup_max: 3 };
  const one = await sampled({ threads: 1 });
  expect(one.threads).toBe(1);
  for (const options of [{ threads: 2 }, { threads: 3 }, { threads: 2, worker: false }, { threads: 2, speculative_config }]) {
    const other = await sampled(options);
    expect(other.threads).toBe(options.threads);
    expect(other.said, JSON.stringify(options)).toEqual(one.said);
  }
});
