// Tuning in a real Chromium over a tiny model that repeats itself: its rows are the engine's own counters.
import { afterAll, beforeAll, expect, test } from "vitest";
import { open } from "./harness.mjs";

let browser;
let page;
beforeAll(async () => {
  browser = await open();
  page = browser.page;
  await page.evaluate(async () => {
    globalThis.ngram = (k) => k && { method: "ngram", num_speculative_tokens: k, prompt_lookup_min: 1, prompt_lookup_max: 3 };
    globalThis.llm = await embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 256, speculative_config: ngram(2) });
    globalThis.prompts = ["the light of the world, the light of the", "about could about could about"];
  });
}, 300_000);
afterAll(() => browser?.close());

test("each setting's row is what the counters rose by; the setting in force comes back", async () => {
  const { before, result, after, progress, table, kept } = await page.evaluate(async () => {
    const progress = [];
    await llm.generate(prompts, { max_tokens: 8 });
    const before = await llm.getMetrics();
    const result = await llm.tune(prompts, [0, 3, 5].map((k) => ngram(k) || null), { max_tokens: 48, ignore_eos: true }, {
      rounds: 2, onProgress: (p) => progress.push(p),
    });
    const after = await llm.getMetrics();
    return { before, result, after, progress, table: embergram.formatTuneTable(result), kept: llm.speculativeConfig };
  });
  expect(result).toMatchObject({ same_tokens: true, disturbed: false });
  expect(kept.num_speculative_tokens).toBe(2);
  expect(result.rows.map((row) => row.label)).toEqual(["none", "K=3, lookup 1-3", "K=5, lookup 1-3"]);
  const [none, three, five] = result.rows;
  expect(none).toMatchObject({ num_drafts: 0, num_draft_tokens: 0, num_accepted_tokens_per_pos: [] });
  for (const [row, k] of [[none, 0], [three, 3], [five, 5]]) {
    expect(row.num_accepted_tokens_per_pos).toHaveLength(k);
    expect(row.num_accepted_tokens_per_pos.reduce((a, b) => a + b, 0)).toBe(row.num_accepted_tokens);
    expect(row.tokens_per_second_by_round).toHaveLength(2);
    expect(row.seconds).toBeGreaterThan(0);
    // Two rounds of two prompts of 48 tokens; those of the first step do not count.
    expect(row.tokens).toBeGreaterThanOrEqual(2 * (2 * 48 - 2));
    expect(row.tokens).toBeLessThanOrEqual(2 * (2 * 48 - 1));
    if (k > 0) {
      expect(row.num_accepted_tokens).toBeGreaterThan(0);
      expect(row.acceptance_rate).toBeCloseTo(row.num_accepted_tokens / row.num_draft_tokens);
      expect(row.steps).toBeLessThan(none.steps);
    }
  }
  // The warm-up speculates too: the rows hold no more than what the counters rose by.
  const risen = (name) => {
    const value = (metrics) => metrics.find((m) => m.name === name).value;
    return value(after) - value(before);
  };
  const sum = (key) => result.rows.reduce((total, row) => total + row[key], 0);
  expect(sum("num_drafts")).toBeLessThanOrEqual(risen("vllm:spec_decode_num_drafts"));
  expect(risen("vllm:spec_decode_num_drafts") - sum("num_drafts")).toBeLessThanOrEqual(2 * 8);
  expect(risen("vllm:generation_tokens")).toBe(2 * 8 + 3 * 2 * 2 * 48);
  expect(progress.map((p) => p.done)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(progress.map((p) => p.label)).toEqual([
    "warm-up", "none", "K=3, lookup 1-3", "K=5, lookup 1-3", "K=5, lookup 1-3", "K=3, lookup 1-3", "none", null,
  ]);
  expect(table.split("\n")).toHaveLength(6);
  const best = result.rows.find((row) => row.label === result.recommended);
  expect(result.recommendation).toEqual(best.config);
});

test("an abort or a refusal sets speculation back, and the model goes on", async () => {
  const outcome = await page.evaluate(async () => {
    const refused = (promise) => promise.then(() => "ran", (error) => error.code);
    const stop = new AbortController();
    const codes = [
      await refused(llm.tune(prompts, [ngram(4)], { max_tokens: 200, ignore_eos: true }, {
        signal: stop.signal, onProgress: ({ round }) => round === 1 && setTimeout(() => stop.abort(), 20),
      })),
      await refused(llm.tune(prompts, [ngram(4), { method: "medusa", num_speculative_tokens: 2 }], { max_tokens: 4 })),
      await refused(llm.tune(prompts, [null], { temperature: -1 })),
      await refused(llm.tune(prompts, [], {})),
      await refused(llm.tune([], [null], {})),
      await refused(llm.tune(prompts, [null], {}, { rounds: 0 })),
    ];
    const first = llm.tune(prompts, [null], { max_tokens: 4 });
    codes.push(await refused(llm.tune(prompts, [null], {})));
    await first;
    const [output] = await llm.generate(prompts[0], { max_tokens: 32, temperature: 0 });
    return { codes, kept: llm.speculativeConfig, spec: output.metrics.speculative_decoding };
  });
  expect(outcome.codes).toEqual([
    "aborted", "invalid_config", "invalid_params", "invalid_params", "invalid_prompt", "invalid_params", "invalid_params",
  ]);
  expect(outcome.kept.num_speculative_tokens).toBe(2);
  // And not only by its name: requests draft with the depth that was loaded.
  expect(outcome.spec.num_spec_tokens).toBe(2);
});
