// The real model in a real Chromium: speculation changes no token, greedy and sampled. Many cases of the tiny model run on the
// CPU in cpu.test.mjs and on WebGPU in crate/tests/browser.rs.
import { expect, test } from "vitest";
import { open } from "./harness.mjs";

const REQUESTS = [
  ["def add(a, b):\n    return a + b\n\ndef add(a, b):\n", { temperature: 0 }],
  ["One, two, three. One, two, three. One,", { temperature: 0.7, seed: 3, top_p: 0.9 }],
  ["Once upon a time", { temperature: 1, seed: 4 }],
  ['{"a": 1, "b": 2}\n{"a": 1, "b":', { temperature: 0, repetition_penalty: 1.1 }],
  ["The cat sat on the mat. The cat sat on", { temperature: 0.5, seed: 5, top_k: 20, logprobs: 2 }],
  ["A list of colours: red, green,", { temperature: 0.8, seed: 6, min_p: 0.05 }],
];

// On a WebGPU that computes in software they take minutes.
const backends = process.env.EMBERGRAM_FULL === "1" ? ["cpu", "webgpu"] : ["cpu"];

test.each(backends)("six requests of 48 tokens say the same at every depth on %s", async (backend) => {
  const browser = await open();
  try {
    const { texts, stats } = await browser.page.evaluate(async ([backend, requests]) => {
      const { Llm, speculationStats } = globalThis.embergram;
      const llm = await Llm.load({ model: "/model.gguf", backend, max_model_len: 512, max_num_seqs: 6 });
      const params = requests.map(([, params]) => ({ ...params, max_tokens: 48 }));
      const texts = [];
      for (const k of [0, 5, "auto"]) {
        await llm.setSpeculativeConfig(k === 0 ? null : { method: "ngram", num_speculative_tokens: k, prompt_lookup_min: 1, prompt_lookup_max: 3 });
        const outputs = await llm.generate(requests.map(([text]) => text), params);
        texts.push(outputs.map(({ outputs: [{ text, token_ids, logprobs, finish_reason }] }) => ({ text, token_ids, logprobs, finish_reason })));
      }
      const stats = speculationStats(await llm.getMetrics());
      await llm.unload();
      return { texts, stats };
    }, [backend, REQUESTS]);
    console.log(`drafted ${stats.num_draft_tokens}, accepted ${stats.num_accepted_tokens}`);
    expect(texts[1]).toEqual(texts[0]);
    expect(texts[2]).toEqual(texts[0]);
    expect(stats.num_accepted_tokens).toBeGreaterThan(0);
    expect(stats.num_draft_tokens).toBeGreaterThan(stats.num_accepted_tokens);
  } finally {
    await browser.close();
  }
});
