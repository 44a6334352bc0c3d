// What calls offer beside their outputs: counting, cutting, aborts that keep what there was, a lost engine, the cache by hand.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve } from "../support/server.mjs";
import { Llm, modelCache, MODEL, refusal, script, TINY } from "./harness.mjs";

const messages = [{ role: "user", content: "Say hello." }];
let llm;
beforeAll(async () => {
  llm = await Llm.load({ model: MODEL, max_model_len: 256 });
}, 120_000);
afterAll(() => llm?.unload());

test("countTokens and applyChatTemplate tell what a call would take", async () => {
  const [{ prompt_token_ids }] = await llm.chat(messages, { max_tokens: 1 });
  expect(await llm.countTokens(messages)).toBe(prompt_token_ids.length);
  expect(await llm.countTokens("Say hello.")).toBe((await llm.tokenize("Say hello.")).length);
  const made = await llm.applyChatTemplate(messages);
  expect(made.prompt_token_ids).toEqual(prompt_token_ids);
  expect(made.prompt).toMatch(/<\|im_start\|>user\nSay hello\.<\|im_end\|>\n<\|im_start\|>assistant\n$/);
  const open = await llm.applyChatTemplate(messages, { add_generation_prompt: false });
  expect(made.prompt.startsWith(open.prompt)).toBe(true);
  expect(await llm.countTokens(messages, { add_generation_prompt: false })).toBe(open.prompt_token_ids.length);
});

test("truncate_prompt_tokens keeps the end of a prompt", async () => {
  const prompt = Array.from({ length: 400 }, (_, i) => 100 + i);
  const ids = async (truncate_prompt_tokens) => (await llm.generate([prompt], { max_tokens: 1, temperature: 0, truncate_prompt_tokens }))[0].prompt_token_ids;
  expect(await ids(5)).toEqual(prompt.slice(-5));
  expect(await ids(-1)).toEqual(prompt.slice(-255));
  expect(await refusal(ids(null))).toMatchObject({ code: "prompt_too_long" });
  expect(await refusal(ids(0))).toMatchObject({ code: "invalid_params", message: expect.stringContaining("truncate_prompt_tokens is 0") });
});

test("prompt_logprobs tell of a prompt what logprobs told when it was written", async () => {
  const [{ prompt_token_ids, outputs: [{ token_ids, logprobs }] }] = await llm.generate("Once upon a time", { max_tokens: 12, temperature: 0, logprobs: 2 });
  const whole = [...prompt_token_ids, ...token_ids];
  const [{ prompt_logprobs, outputs }] = await llm.generate([whole], { max_tokens: 1, temperature: 0, prompt_logprobs: 2 });
  expect(prompt_logprobs).toHaveLength(whole.length);
  expect(prompt_logprobs[0]).toBeNull();
  // A prompt's rows are summed in an order of their own.
  const near = logprobs.map((step) => step.map((one) => ({ ...one, logprob: expect.closeTo(one.logprob, 4) })));
  expect(prompt_logprobs.slice(prompt_token_ids.length)).toEqual(near);
  expect(outputs[0].logprobs).toBeNull();
  const deltas = [];
  for await (const delta of llm.stream(whole, { max_tokens: 2, temperature: 0, prompt_logprobs: 2 })) deltas.push(delta.prompt_logprobs);
  expect(deltas).toEqual([prompt_logprobs, undefined]);
});

test("allowed_token_ids and bad_words keep tokens out", async () => {
  const run = async (more) => (await llm.generate("One, two, three,", { max_tokens: 8, temperature: 0, ...more }))[0].outputs[0];
  const free = await run({});
  const allowed = [...new Set(free.token_ids)].slice(0, 2);
  expect((await run({ allowed_token_ids: allowed })).token_ids.every((id) => allowed.includes(id))).toBe(true);
  expect(free.text).toContain("four");
  expect((await run({ bad_words: ["four"] })).text).not.toContain("four");
  expect(await refusal(run({ allowed_token_ids: [] }))).toMatchObject({ code: "invalid_params" });
});

test("an aborted call is an AbortError with its reason, and keeps what there was", async () => {
  const whole = (await llm.generate("Once upon a time", { max_tokens: 40, temperature: 0 }))[0].outputs[0].text;
  const stop = new AbortController();
  const reason = { why: "enough" };
  let steps = 0;
  const error = await (async () => {
    for await (const _ of llm.stream("Once upon a time", { max_tokens: 200, temperature: 0 }, { signal: stop.signal })) if (++steps === 5) stop.abort(reason);
  })().catch((thrown) => thrown);
  expect(error).toMatchObject({ name: "AbortError", code: "aborted", cause: reason });
  const [{ outputs: [{ text, token_ids, finish_reason }] }] = error.partial;
  expect(token_ids.length).toBeGreaterThanOrEqual(5);
  expect(finish_reason).toBeNull();
  expect(whole.startsWith(text.slice(0, whole.length))).toBe(true);
  const before = await llm.generate("x", {}, { signal: AbortSignal.abort() }).catch((thrown) => thrown);
  expect(before).toMatchObject({ name: "AbortError", code: "aborted", cause: { name: "AbortError" } });
  expect(before.partial).toBeUndefined();
});

test("lost stays open while the engine is well, and with unload", async () => {
  const own = await Llm.load({ model: TINY, max_model_len: 64 });
  await refusal(own.generate("the", { temperature: -1 }));
  await own.unload();
  await refusal(own.generate("the"));
  expect(await Promise.race([own.lost, new Promise((done) => setTimeout(() => done("open"), 50))])).toBe("open");
});

test("modelCache brings a model without loading it, and knows what is whole", async () => {
  const folder = mkdtempSync(join(tmpdir(), "embergram-cache-"));
  const server = await serve();
  server.file("/tiny.gguf", readFileSync(TINY));
  const model = `${server.origin}/tiny.gguf`;
  try {
    const { stdout, stderr } = await script(`
      import { Llm, modelCache } from "embergram";
      const model = ${JSON.stringify(model)};
      const phases = new Set();
      const before = await modelCache.has(model);
      const bytes = await modelCache.download(model, { onProgress: ({ phase }) => phases.add(phase) });
      const after = await modelCache.has(model);
      const llm = await Llm.load({ model, max_model_len: 64 });
      await llm.unload();
      await modelCache.delete(model);
      console.log(JSON.stringify({ before, bytes, after, phases: [...phases], last: await modelCache.has(model), persist: await modelCache.persist() }));`,
    { env: { EMBERGRAM_CACHE_DIR: folder } });
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({ before: false, bytes: readFileSync(TINY).length, after: true, phases: ["download"], last: false, persist: true });
    expect(server.of("/tiny.gguf").filter(({ sent }) => sent > 0)).toHaveLength(1);
  } finally {
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  }
  expect(await modelCache.has(model)).toBe(false);
});
