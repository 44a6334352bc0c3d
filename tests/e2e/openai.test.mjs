// The OpenAI door in a real Chromium over a tiny model: the same tokens as the package's own calls, and its refusals.
import { afterAll, beforeAll, expect, test } from "vitest";
import { helpers, open } from "./harness.mjs";

let browser;
let page;
beforeAll(async () => {
  browser = await open();
  page = browser.page;
  await page.evaluate(helpers);
  await page.evaluate(async () => {
    const { Llm } = globalThis.embergram;
    const speculative_config = { method: "ngram", num_speculative_tokens: 3, prompt_lookup_min: 1, prompt_lookup_max: 3 };
    globalThis.llm = await Llm.load({ model: "/tiny.gguf", max_model_len: 128, speculative_config });
    globalThis.messages = [{ role: "user", content: "the light of the world, the light of the" }];
  });
}, 300_000);
afterAll(() => browser?.close());

test("chat.completions.create answers as llm.chat does, streamed or not", async () => {
  const { native, whole, chunks } = await page.evaluate(async () => {
    const params = { max_tokens: 24, temperature: 0.7, seed: 3 };
    const chunks = [];
    const body = { messages, ...params, n: 2, logprobs: true, top_logprobs: 2 };
    const [native] = await llm.chat(messages, { ...params, n: 2, logprobs: 2 });
    const whole = await llm.chat.completions.create(body);
    for await (const chunk of await llm.chat.completions.create({ ...body, stream: true, stream_options: { include_usage: true } })) {
      chunks.push(chunk);
    }
    return { native, whole, chunks };
  });
  expect(whole.model).toBe("random tiny");
  for (const i of [0, 1]) {
    const { message, finish_reason, logprobs } = whole.choices[i];
    expect(message.content).toBe(native.outputs[i].text);
    expect(finish_reason).toBe(native.outputs[i].finish_reason);
    expect(logprobs.content.map((t) => t.logprob)).toEqual(native.outputs[i].logprobs.map(([chosen]) => chosen.logprob));
    for (const { token, top_logprobs } of logprobs.content) {
      expect(top_logprobs).toHaveLength(2);
      // As in vLLM the chosen token is the first, and the likeliest other comes after it.
      expect(top_logprobs[0].token).toBe(token);
    }
    // The tokens' bytes make up the text, but for tokens that are parts of characters.
    if (logprobs.content.every((t) => t.bytes)) {
      const bytes = Uint8Array.from(logprobs.content.flatMap((t) => t.bytes));
      expect(new TextDecoder().decode(bytes).startsWith(message.content)).toBe(true);
    }
    const own = chunks.flatMap((c) => c.choices).filter((c) => c.index === i);
    expect(own[0].delta).toEqual({ role: "assistant", content: "" });
    expect(own.map((c) => c.delta.content ?? "").join("")).toBe(message.content);
    expect(own.flatMap((c) => c.logprobs?.content ?? [])).toEqual(logprobs.content);
    expect(own.map((c) => c.finish_reason).filter(Boolean)).toEqual([finish_reason]);
  }
  const prompt = native.prompt_token_ids.length;
  const tokens = native.outputs.reduce((sum, o) => sum + o.token_ids.length, 0);
  expect(whole.usage).toMatchObject({ prompt_tokens: prompt, completion_tokens: tokens, total_tokens: prompt + tokens });
  // The prompt's whole blocks of 16 were computed for the call before.
  expect(whole.usage.prompt_tokens_details.cached_tokens).toBe(Math.floor((prompt - 1) / 16) * 16);
  // vLLM leaves what is null out of the last chunk.
  const { completion_tokens_details, ...usage } = whole.usage;
  expect(completion_tokens_details).toBeNull();
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage, metrics: whole.metrics });
  const drafts = native.outputs.map((o) => o.metrics.speculative_decoding);
  expect(whole.metrics.speculative_decoding.num_draft_tokens).toBe(drafts[0].num_draft_tokens + drafts[1].num_draft_tokens);
  expect(whole.metrics.speculative_decoding.num_draft_tokens).toBeGreaterThan(0);
});

test("max_tokens defaults to the room left", async () => {
  const { usage, choices } = await page.evaluate(() => llm.chat.completions.create({ messages, temperature: 0, ignore_eos: true }));
  expect(usage.total_tokens).toBe(128);
  expect(choices[0].finish_reason).toBe("length");
});

test("completions.create takes several prompts, streamed in the same steps", async () => {
  const { whole, texts, native } = await page.evaluate(async () => {
    const prompt = ["the light", "about the water"];
    const body = { prompt, n: 2, max_tokens: 12, seed: 8, logprobs: 1 };
    const whole = await llm.completions.create(body);
    const texts = ["", "", "", ""];
    for await (const { choices: [choice] } of await llm.completions.create({ ...body, stream: true })) texts[choice.index] += choice.text;
    const native = await llm.generate(prompt, { n: 2, max_tokens: 12, seed: 8 });
    return { whole, texts, native: native.flatMap((o) => o.outputs.map((c) => c.text)) };
  });
  expect(whole.choices.map((c) => c.text)).toEqual(native);
  expect(texts).toEqual(native);
  expect(whole.choices[3].logprobs.tokens.length).toBe(whole.choices[3].logprobs.token_logprobs.length);
});

test("aborts through the signal, the controller, and by leaving; the engine goes on", async () => {
  const { signal, kept, count } = await page.evaluate(async () => {
    const own = new AbortController();
    // Eight choices, so that they take longer than a busy page to abort them.
    const long = { messages, n: 8, ignore_eos: true, stream: true };
    const aborts = async () => embergram.counterValue(await llm.getMetrics(), "vllm:request_success", { finished_reason: "abort" }) ?? 0;
    const before = await aborts();
    const signal = await settled((async () => {
      for await (const _ of await llm.chat.completions.create(long, { signal: own.signal })) own.abort();
    })());
    const kept = await settled((async () => {
      const stream = await llm.chat.completions.create(long);
      for await (const _ of stream) stream.controller.abort();
      for await (const _ of await llm.chat.completions.create(long)) break;
      return llm.chat.completions.create({ messages, max_tokens: 2 });
    })());
    return { signal, kept, count: (await aborts()) - before };
  });
  expect(signal.error).toMatchObject({ name: "AbortError", code: "aborted" });
  expect(kept.value.usage.completion_tokens).toBe(2);
  expect(count).toBe(3 * 8);
});

test("refusals come from the door or from the engine, with their codes", async () => {
  const refused = await page.evaluate(() => Promise.all([
    { messages, tools: [{ type: "function" }] },
    { messages, max_token: 4 },
    { messages, temperature: -1 },
    { messages, logit_bias: { 100000: 1 } },
    { messages: [{ role: "user", content: "the ".repeat(200) }] },
  ].map((body) => settled(llm.chat.completions.create(body)))));
  expect(refused.map(({ error }) => error.code)).toEqual([
    "invalid_params", "invalid_params", "invalid_params", "invalid_params", "prompt_too_long",
  ]);
  expect(refused.map(({ error }) => error.name)).toEqual(Array(5).fill("EmbergramError"));
  expect(refused[2].error.message).toContain("temperature must be non-negative, got -1.0.");
});
