// The real models in a real Chromium against vLLM's recordings: its tokens and text, and with speculation its counters.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { open, recordings } from "./harness.mjs";

let browser;
let page;
beforeAll(async () => {
  browser = await open();
  page = browser.page;
});
afterAll(() => browser?.close());

// On WebGPU that computes in software all recordings take twenty minutes on two cores. By default it says the beginning of two
// prompts of each model, with drafts, and the CPU says all of them; the larger models' recordings it has with one K.
const full = process.env.EMBERGRAM_FULL === "1";
const toTheEnd = ({ prompts, max_tokens, max_model_len }) =>
  prompts.some((p) => p.prompt_token_ids.length + max_tokens > max_model_len);
const LONG = 512;
const START = 8;
const start = ({ prompts, ...run }) => {
  const some = prompts.filter(({ prompt_token_ids }) => prompt_token_ids.length < 64).slice(0, 2);
  return { ...run, max_tokens: START, prompts: some };
};
/** Without the prompt that alone takes as long as all others. */
const short = ({ prompts, ...run }) => ({ ...run, prompts: prompts.filter(({ prompt_token_ids }) => prompt_token_ids.length < LONG) });
const chosen = recordings().flatMap(({ name, runs, model }) => {
  const all = Object.entries(runs).map(([k, run]) => ({ name, k, model, recordedPrompts: run.prompts.length, ...run }));
  const on = (backend, some) => some.map((run) => ({ backend, ...run }));
  if (full || process.env.EMBERGRAM_GOLDEN) return [...on("cpu", all), ...on("webgpu", all)];
  const largest = all.filter(({ k }) => k === "5");
  if (model !== "model") return [...on("cpu", largest.map(short)), ...on("webgpu", largest.map(start))];
  return [...on("cpu", all), ...(all.length > 1 ? on("webgpu", largest.map(start)) : [])];
});

// Counts that hang on the engine's own batching and block size, or on time, are not among these.
const EXACT = [
  "vllm:spec_decode_num_drafts", "vllm:spec_decode_num_draft_tokens", "vllm:spec_decode_num_accepted_tokens",
  "vllm:spec_decode_num_accepted_tokens_per_pos", "vllm:prompt_tokens", "vllm:generation_tokens", "vllm:request_success",
];

/** Runs in the page. `together`: all prompts in shared steps. */
async function run({ backend, model, config, max_tokens, max_model_len, prompts, together }) {
  const { Llm } = globalThis.embergram;
  const llm = await Llm.load({ model: `/${model}.gguf`, backend, max_model_len, max_num_batched_tokens: 512, ...config });
  const params = { temperature: 0, max_tokens };
  const outputs = [];
  if (together) outputs.push(...(await llm.generate(prompts, params)));
  else for (const prompt of prompts) outputs.push(...(await llm.generate([prompt], params)));
  const metrics = await llm.getMetrics();
  await llm.unload();
  return { outputs, metrics };
}

describe.each(chosen)("$name, K = $k on $backend", ({ backend, name, model, recordedPrompts, config, max_tokens, max_model_len, prompts, metrics: recorded }) => {
  test("the same tokens, text and counters", async () => {
    // Together they take less time. Of these counts that changes only that of steps, unless a sequence comes to the end of
    // the context, where vLLM drafts for none of a batch.
    const recordedTogether = name.includes("batch");
    const together = recordedTogether || !(full || toTheEnd({ prompts, max_tokens, max_model_len }));
    const { speculative_config = null } = config;
    const result = await page.evaluate(run, {
      backend, model, config: { speculative_config }, max_tokens, max_model_len, together, prompts: prompts.map((p) => p.prompt_token_ids),
    });
    const cut = prompts.some(({ output_token_ids }) => output_token_ids.length > max_tokens);
    for (const [i, { outputs: [output] }] of result.outputs.entries()) {
      expect(output.token_ids, prompts[i].name).toEqual(prompts[i].output_token_ids.slice(0, max_tokens));
      if (cut) expect(prompts[i].text.startsWith(output.text), prompts[i].name).toBe(true);
      if (cut) continue;
      expect(output.text, prompts[i].name).toBe(prompts[i].text);
      expect(output.finish_reason).toBe(prompts[i].finish_reason);
    }
    // The counters are those of all prompts.
    if (cut || prompts.length < recordedPrompts) return;
    // A recording has the names of vLLM's classes; ours are those in lower case.
    const strip = ({ labels: { model_name, ...labels }, type, ...metric }) => ({ ...metric, type: type.toLowerCase(), labels });
    const exact = (metrics) => metrics.filter(({ name }) => EXACT.includes(name)).map(strip);
    expect(exact(result.metrics)).toEqual(exact(recorded));
    const counts = ["vllm:inter_token_latency_seconds", ...(together === recordedTogether ? ["vllm:iteration_tokens_total"] : [])];
    for (const name of counts) {
      const count = (metrics) => metrics.find((m) => m.name === name).count;
      expect(count(result.metrics), name).toBe(count(recorded));
    }
  });
});
