// The package's calls in a real Chromium over a tiny model.
import { afterAll, beforeAll, expect, test } from "vitest";
import { helpers, open } from "./harness.mjs";

let browser;
let page;
beforeAll(async () => {
  browser = await open();
  page = browser.page;
  await page.evaluate(helpers);
  await page.evaluate(async () => {
    globalThis.greedy = { temperature: 0, max_tokens: 12, ignore_eos: true };
    globalThis.llm = await embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 512 });
  });
}, 300_000);
afterAll(() => browser?.close());

const ids = (outputs) => outputs.map((o) => o.outputs[0].token_ids);

test("generate: one prompt or many, text or ids, one set of parameters or one for each", async () => {
  const got = await page.evaluate(async () => {
    const texts = ["the light of the world", "people about the house"];
    const tokens = [await llm.tokenize(texts[0]), Uint32Array.from(await llm.tokenize(texts[1]))];
    return {
      one: await llm.generate(texts[0], greedy),
      many: await llm.generate(texts, greedy),
      oneOfIds: await llm.generate(tokens[0], greedy),
      ofIds: await llm.generate(tokens, greedy),
      each: await llm.generate(texts, [{ ...greedy, max_tokens: 3 }, { ...greedy, max_tokens: 5 }]),
      none: await llm.generate([], greedy),
      texts,
    };
  });
  expect(got.many.map((o) => o.prompt)).toEqual(got.texts);
  expect(got.ofIds.map((o) => o.prompt)).toEqual([null, null]);
  expect(got.ofIds.map((o) => o.prompt_token_ids)).toEqual(got.many.map((o) => o.prompt_token_ids));
  expect(ids(got.one)).toEqual([ids(got.many)[0]]);
  expect(ids(got.oneOfIds)).toEqual(ids(got.one));
  expect(ids(got.ofIds)).toEqual(ids(got.many));
  expect(ids(got.many).map((t) => t.length)).toEqual([12, 12]);
  expect(ids(got.each)).toEqual([ids(got.many)[0].slice(0, 3), ids(got.many)[1].slice(0, 5)]);
  expect(got.each[0].outputs[0].finish_reason).toBe("length");
  expect(got.none).toEqual([]);
});

test("stream: the deltas add up to what generate gives", async () => {
  const { whole, deltas, last } = await page.evaluate(async () => {
    const params = { temperature: 0.8, seed: 7, max_tokens: 24, logprobs: 2, ignore_eos: true };
    const [whole] = await llm.generate("the light of", params);
    const deltas = [];
    const stream = llm.stream("the light of", params);
    let next;
    while (!(next = await stream.next()).done) deltas.push(next.value);
    return { whole, deltas, last: next.value };
  });
  const [output] = whole.outputs;
  expect(deltas.map((d) => d.text).join("")).toBe(output.text);
  expect(deltas.flatMap((d) => d.token_ids)).toEqual(output.token_ids);
  expect(deltas.flatMap((d) => d.logprobs)).toEqual(output.logprobs);
  expect(deltas.map((d) => d.finish_reason).filter(Boolean)).toEqual(["length"]);
  expect(deltas.at(-1).metrics.num_generation_tokens).toBe(24);
  expect(last.outputs[0].token_ids).toEqual(output.token_ids);
});

test("chat and chatStream go through the model's template", async () => {
  const { answer, several, streamed, prompt } = await page.evaluate(async () => {
    const messages = [{ role: "user", content: "the house" }];
    const [answer] = await llm.chat(messages, greedy);
    const several = await llm.chat([messages, messages], greedy);
    let streamed = "";
    for await (const delta of llm.chatStream(messages, greedy)) streamed += delta.text;
    return { answer, several, streamed, prompt: await llm.tokenize("<|im_start|>user\nthe house<|im_end|>\n<|im_start|>assistant\n") };
  });
  expect(answer.prompt_token_ids).toEqual(prompt);
  expect(streamed).toBe(answer.outputs[0].text);
  expect(ids(several)).toEqual([...ids([answer]), ...ids([answer])]);
});

test("tokenize and detokenize are each other's reverse", async () => {
  const { texts, back, empty } = await page.evaluate(async () => {
    const texts = ["the light of the world", "Grüße, 世界! 👩‍🚀", "  two  spaces\n\ttab ", "x"];
    const back = [];
    for (const text of texts) back.push(await llm.detokenize(await llm.tokenize(text)));
    return { texts, back, empty: await llm.detokenize([]) };
  });
  expect(back).toEqual(texts);
  expect(empty).toBe("");
});

test("a stop string ends the text before it, and is named", async () => {
  const { whole, stop, output, last } = await page.evaluate(async () => {
    const [{ outputs: [whole] }] = await llm.generate("the world", greedy);
    const stop = whole.text.trim().slice(3, 6);
    const [{ outputs: [output] }] = await llm.generate("the world", { ...greedy, stop });
    let last;
    for await (const delta of llm.stream("the world", { ...greedy, stop })) last = delta;
    return { whole, stop, output, last };
  });
  expect(whole.stop_reason).toBe(null);
  expect(output).toMatchObject({ finish_reason: "stop", stop_reason: stop, text: whole.text.slice(0, whole.text.indexOf(stop)) });
  expect(last).toMatchObject({ finish_reason: "stop", stop_reason: stop });
});

test("n samples: each as with its own seed", async () => {
  const { three, singles } = await page.evaluate(async () => {
    const params = { temperature: 1.2, max_tokens: 10, ignore_eos: true };
    const [three] = await llm.generate("people and", { ...params, n: 3, seed: 40 });
    const singles = [];
    for (const seed of [40, 41, 42]) singles.push(...(await llm.generate("people and", { ...params, seed })));
    return { three, singles };
  });
  expect(three.outputs.map((o) => o.index)).toEqual([0, 1, 2]);
  expect(three.outputs.map((o) => o.token_ids)).toEqual(ids(singles));
  expect(new Set(three.outputs.map((o) => String(o.token_ids))).size).toBe(3);
});

test("logprobs: the chosen token first, then the most likely ones", async () => {
  const [output] = (await page.evaluate(() => llm.generate("the world", { ...greedy, logprobs: 3 })))[0].outputs;
  expect(output.logprobs).toHaveLength(output.token_ids.length);
  output.logprobs.forEach(([chosen, ...rest], i) => {
    expect(chosen).toMatchObject({ token_id: output.token_ids[i], rank: 1 });
    const all = [chosen, ...rest].filter((t, j, list) => list.findIndex((u) => u.token_id === t.token_id) === j);
    expect(all).toHaveLength(3);
    expect(all.map((t) => t.rank)).toEqual([1, 2, 3]);
    expect(all.reduce((sum, t) => sum + Math.exp(t.logprob), 0)).toBeLessThanOrEqual(1 + 1e-5);
  });
});

test("eight prompts together give the tokens they give one by one", async () => {
  const { together, single, times } = await page.evaluate(async () => {
    const words = "light world night water people house river time".split(" ");
    const prompts = words.map((word, i) => `the ${word} of the `.repeat(1 + (i % 3)) + word);
    const params = words.map((_, i) => (i % 2 ? { temperature: 0.9, seed: i } : { temperature: 0 }))
      .map((p) => ({ ...p, max_tokens: 32, ignore_eos: true }));
    // Neither run may find the prompts' blocks computed.
    const load = () => embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 128, enable_prefix_caching: false });
    const llm = await load();
    await llm.generate(prompts, params.map((p) => ({ ...p, max_tokens: 2 })));
    const single = [];
    const start = performance.now();
    for (const [i, prompt] of prompts.entries()) single.push(...(await llm.generate(prompt, params[i])));
    const middle = performance.now();
    const together = await llm.generate(prompts, params);
    const times = [middle - start, performance.now() - middle];
    await llm.unload();
    return { together, single, times };
  });
  expect(ids(together)).toEqual(ids(single));
  console.log(`8 prompts: ${times[0].toFixed(0)} ms one by one, ${times[1].toFixed(0)} ms together (${(times[0] / times[1]).toFixed(2)}x)`);
});

test("calls that overlap share the steps", async () => {
  const { alone, overlapping, steps } = await page.evaluate(async () => {
    const count = async () => embergram.histogram(await llm.getMetrics(), "embergram:step_time_seconds").count;
    const prompts = ["the night", "water and light", "when they have"];
    const params = { ...greedy, max_tokens: 48 };
    const alone = [];
    for (const prompt of prompts) alone.push(...(await llm.generate(prompt, params)));
    const before = await count();
    const overlapping = await Promise.all(prompts.map((prompt) => llm.generate(prompt, params)));
    return { alone, overlapping: overlapping.flat(), steps: (await count()) - before };
  });
  expect(ids(overlapping)).toEqual(ids(alone));
  // One after the other they take 144.
  expect(steps).toBeGreaterThanOrEqual(48);
  expect(steps).toBeLessThan(100);
});

test("a chat's second turn reuses whole blocks of the first, and answers as a fresh engine would", async () => {
  const { first, second, hits, queries, fresh } = await page.evaluate(async () => {
    const counters = async () => {
      const metrics = await llm.getMetrics();
      return ["vllm:prefix_cache_hits", "vllm:prefix_cache_queries"].map((name) => embergram.counterValue(metrics, name));
    };
    const messages = [{ role: "user", content: "what have the people of the world about the river and the house at night" }];
    const [first] = await llm.chat(messages, greedy);
    messages.push({ role: "assistant", content: first.outputs[0].text }, { role: "user", content: "and the light" });
    const before = await counters();
    const [second] = await llm.chat(messages, greedy);
    const after = await counters();
    const other = await embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 512, enable_prefix_caching: false });
    const [fresh] = await other.chat(messages, greedy);
    await other.unload();
    return { first, second, fresh, hits: after[0] - before[0], queries: after[1] - before[1] };
  });
  const shared = first.prompt_token_ids.length;
  expect(second.prompt_token_ids.slice(0, shared)).toEqual(first.prompt_token_ids);
  expect(shared).toBeGreaterThan(16);
  expect(hits).toBe(Math.floor(shared / 16) * 16);
  expect(queries).toBe(second.prompt_token_ids.length);
  expect(second.metrics.num_cached_tokens).toBe(hits);
  expect(fresh.metrics.num_cached_tokens).toBe(0);
  expect(ids([second])).toEqual(ids([fresh]));
});

/** How often requests ended by abort. */
const aborts = () => page.evaluate(async () =>
  embergram.counterValue(await llm.getMetrics(), "vllm:request_success", { finished_reason: "abort" }) ?? 0);
const running = () => page.evaluate(async () => embergram.gaugeValue(await llm.getMetrics(), "vllm:num_requests_running"));

test("a signal ends generate with code aborted; it counts once, and the engine goes on", async () => {
  const before = await aborts();
  const { ended, bystander, alone, late } = await page.evaluate(async () => {
    const stop = new AbortController();
    // By its fifth token all three are under way, however slow the machine is.
    const logits_processors = [(outputIds) => { if (outputIds.length === 5) stop.abort(); }];
    const long = { temperature: 0, max_tokens: null, ignore_eos: true, logits_processors };
    const bystander = llm.generate("the river", { ...greedy, max_tokens: 40 });
    const call = settled(llm.generate(["the light", "the water"], long, { signal: stop.signal }));
    const ended = await call;
    return {
      ended, bystander: await bystander, alone: await llm.generate("the river", { ...greedy, max_tokens: 40 }),
      late: await settled(llm.generate("the light", long, { signal: stop.signal })),
    };
  });
  expect(ended.error).toMatchObject({ name: "AbortError", code: "aborted" });
  expect(late.error).toMatchObject({ name: "AbortError", code: "aborted" });
  expect(ids(bystander)).toEqual(ids(alone));
  expect(await aborts()).toBe(before + 2);
  expect(await running()).toBe(0);
});

test("a signal ends a stream: what came before it stays, then code aborted", async () => {
  const before = await aborts();
  const { whole, tokens, error } = await page.evaluate(async () => {
    const params = { temperature: 0, max_tokens: 400, ignore_eos: true };
    const [whole] = await llm.generate("time and", params);
    const stop = new AbortController();
    const tokens = [];
    let error;
    try {
      for await (const delta of llm.stream("time and", params, { signal: stop.signal })) {
        tokens.push(...delta.token_ids);
        if (tokens.length >= 5) stop.abort();
      }
    } catch (e) {
      error = { name: e.name, code: e.code };
    }
    return { whole, tokens, error };
  });
  expect(error).toEqual({ name: "AbortError", code: "aborted" });
  expect(tokens.length).toBeGreaterThanOrEqual(5);
  expect(tokens.length).toBeLessThan(400);
  expect(tokens).toEqual(whole.outputs[0].token_ids.slice(0, tokens.length));
  expect(await aborts()).toBe(before + 1);
});

test("leaving a stream's loop aborts its request", async () => {
  const before = await aborts();
  await page.evaluate(async () => {
    for await (const delta of llm.stream("time and", { max_tokens: null, ignore_eos: true })) if (delta.token_ids) break;
    while (embergram.gaugeValue(await llm.getMetrics(), "vllm:num_requests_running") > 0);
  });
  expect(await aborts()).toBe(before + 1);
});

test("speculation changes speed, not tokens; it is set without a new load", async () => {
  const { plain, drafted, metrics, kept, off } = await page.evaluate(async () => {
    const params = { temperature: 0.7, seed: 5, max_tokens: 60, ignore_eos: true };
    const prompt = "the light of the world, the light of the";
    const [plain] = await llm.generate(prompt, params);
    await llm.setSpeculativeConfig({ method: "ngram", num_speculative_tokens: 4, prompt_lookup_min: 1, prompt_lookup_max: 3 });
    const [drafted] = await llm.generate(prompt, params);
    const metrics = await llm.getMetrics();
    const kept = llm.speculativeConfig;
    await llm.setSpeculativeConfig(null);
    const [off] = await llm.generate(prompt, params);
    return { plain, drafted, metrics, kept, off };
  });
  expect(ids([drafted])).toEqual(ids([plain]));
  expect(kept.num_speculative_tokens).toBe(4);
  expect(drafted.metrics.speculative_decoding.num_accepted_draft_tokens).toBeGreaterThan(0);
  expect(metrics.find((m) => m.name === "vllm:spec_decode_num_accepted_tokens").value)
    .toBe(drafted.metrics.speculative_decoding.num_accepted_draft_tokens);
  expect(off.metrics.speculative_decoding).toBeNull();
});

test("metrics: as objects, as text, and back to zero", async () => {
  const { before, text, after } = await page.evaluate(async () => {
    const { counterValue } = embergram;
    const tokens = async () => counterValue(await llm.getMetrics(), "vllm:generation_tokens");
    const before = await tokens();
    const text = await llm.getMetricsText();
    await llm.resetMetrics();
    return { before, text, after: await tokens() };
  });
  expect(Number(/^vllm:generation_tokens_total\{[^}]*\} (\S+)$/m.exec(text)[1])).toBe(before);
  expect(before).toBeGreaterThan(0);
  expect(after).toBe(0);
});

test("bad input is refused with a code, and the next call works", async () => {
  const got = await page.evaluate(async () => {
    const refused = {
      invalid_params: [
        llm.generate("the", { temprature: 1 }), llm.generate("the", { temperature: -1 }), llm.generate("the", { n: 0 }),
        llm.generate("the", { max_tokens: "ten" }), llm.generate("the", { max_tokens: NaN }), llm.generate("the", { logprobs: Infinity }), llm.generate(["the", "a"], [{}]), llm.generate("the", null),
        llm.generate(["the", "world"], [{}, { top_p: 2 }]),
      ],
      invalid_prompt: [
        llm.generate(""), llm.generate([1, 2, 99999999]), llm.generate(["the", [-1]]), llm.generate([[1.5]]), llm.generate([[]]),
        llm.chat([{ role: "user" }]), llm.chat(null), llm.generate(null), llm.generate([{}]), llm.generate([null]),
      ],
      prompt_too_long: [llm.generate("the ".repeat(600))],
      invalid_config: [
        llm.setSpeculativeConfig({ method: "medusa", num_speculative_tokens: 2 }),
        llm.setSpeculativeConfig({ method: "ngram", num_speculative_tokens: 0 }),
      ],
    };
    const got = await Promise.all(Object.entries(refused).flatMap(([code, calls]) =>
      calls.map(async (call, i) => ({ at: `${code} ${i}`, code, ...(await settled(call)) }))));
    return { got, next: await llm.generate("the world", greedy), running: embergram.gaugeValue(await llm.getMetrics(), "vllm:num_requests_running") };
  });
  expect(got.got.map(({ at, error }) => [at, error?.code])).toEqual(got.got.map(({ at, code }) => [at, code]));
  for (const { error } of got.got) {
    expect(error.name).toBe("EmbergramError");
    expect(error.message.length).toBeGreaterThan(15);
  }
  expect(ids(got.next)[0]).toHaveLength(12);
  expect(got.running).toBe(0);
});

test("unload: calls in flight and later ones reject with aborted; twice is no fault; `await using` unloads", async () => {
  const got = await page.evaluate(async () => {
    const long = { max_tokens: null, ignore_eos: true };
    const model = await embergram.Llm.load({ model: "/tiny.gguf" });
    const stream = model.stream("the light", long);
    await stream.next();
    const open = [model.generate("the", long), model.chat([{ role: "user", content: "the" }], long), (async () => { for await (const d of stream) void d; })()];
    const inFlight = Promise.all(open.map(settled));
    await model.unload();
    await model.unload();
    const later = await Promise.all([model.generate("the"), model.tokenize("the"), model.getMetrics(), model.setSpeculativeConfig(null)].map(settled));
    const other = await embergram.Llm.load({ model: "/tiny.gguf" });
    await other[Symbol.asyncDispose]();
    return { inFlight: await inFlight, later, disposed: await settled(other.generate("the")) };
  });
  expect([...got.inFlight, ...got.later, got.disposed].map(({ error }) => error?.code)).toEqual(Array(8).fill("aborted"));
  expect(ids(await page.evaluate(() => llm.generate("the world", greedy)))[0]).toHaveLength(12);
});
