// What a caller may ask for and how it is refused, in a real Chromium on the tiny model.
import { afterAll, beforeAll, expect, test } from "vitest";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { helpers, open } from "./harness.mjs";
import { root } from "../../scripts/setup.mjs";

let browser;
let page;
const folder = mkdtempSync(join(tmpdir(), "embergram-"));
beforeAll(async () => {
  const corrupt = join(folder, "corrupt.gguf");
  const made = spawnSync(process.env.EMBERGRAM_PYTHON ?? "python3", [
    join(root, "scripts/make_model.py"), corrupt, "--type", "F32", "--untied", "--corrupt", "300",
  ], { encoding: "utf8" });
  expect(made.stderr + made.status).toBe("0");
  browser = await open({ places: { "/corrupt.gguf": corrupt } });
  page = browser.page;
  await page.evaluate(helpers);
  await page.evaluate(async () => {
    const options = { max_model_len: 256, max_num_seqs: 2, max_num_waiting: 6, cache: false };
    globalThis.llm = await embergram.Llm.load({ model: "/tiny.gguf", ...options });
  });
}, 300_000);
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await browser?.close();
});

test("lone surrogates are U+FFFD in prompts and in chats", async () => {
  const outcome = await page.evaluate(async () => {
    const params = { max_tokens: 1, temperature: 0 };
    const chat_template = "{{ messages[0].content }}{{ messages[0]['\ufffd'] }}";
    const [generated] = await llm.generate("a\ud800b", params);
    const [chatted] = await llm.chat([{ role: "user", content: "a\ud800b", "\udc00": "c" }], params, { chat_template });
    return [await llm.detokenize(generated.prompt_token_ids), await llm.detokenize(chatted.prompt_token_ids)];
  });
  expect(outcome).toEqual(["a\ufffdb", "a\ufffdbc"]);
});

test("a chat template for one call, and other keys of a message", async () => {
  const texts = await page.evaluate(async () => {
    const messages = [{ role: "user", content: "water", name: "river" }];
    const text = async (options) => {
      const { value, error } = await settled(llm.chat(messages, { max_tokens: 1 }, options));
      return error?.code ?? (await llm.detokenize(value[0].prompt_token_ids));
    };
    const stream = llm.chatStream(messages, { max_tokens: 1 }, { chat_template: "{% nonsense %}" });
    const { error } = await settled(stream.next());
    const own = await text({ chat_template: "{{ messages[0].name }}: {{ messages[0].content }}" });
    return [own, await text({ chat_template: "{% nonsense %}" }), error?.code, await text()];
  });
  expect(texts.slice(0, 3)).toEqual(["river: water", "invalid_params", "invalid_params"]);
  expect(texts[3]).toContain("<|im_start|>user");
});

test("texts that cannot fit are refused before they cross", async () => {
  const outcome = await page.evaluate(async () => {
    const heap = async () => embergram.gaugeValue(await llm.getMetrics(), "embergram:wasm_heap_bytes");
    const long = "water ".repeat(4 << 20);
    const before = await heap();
    const refused = [
      await settled(llm.generate(["water", long])), await settled(llm.chat([{ role: "user", content: long }])),
      await settled(llm.tokenize(long)),
    ];
    return { codes: refused.map(({ error }) => error?.code), grown: (await heap()) - before };
  });
  expect(outcome).toEqual({ codes: ["prompt_too_long", "prompt_too_long", "prompt_too_long"], grown: 0 });
});

test("the heap's gauge is up to date without a step", async () => {
  const [before, after] = await page.evaluate(async () => {
    const heap = async () => embergram.gaugeValue(await llm.getMetrics(), "embergram:wasm_heap_bytes");
    const before = await heap();
    await llm.tokenize("water ".repeat(1 << 17));
    return [before, await heap()];
  });
  expect(after).toBeGreaterThan(before);
});

test("the steps of others run while a large call is tokenized, and a refused one queues nothing", async () => {
  const outcome = await page.evaluate(async () => {
    // Where nothing else is between the caller and the engine.
    const options = { max_model_len: 256, max_num_seqs: 2, max_num_waiting: 6, cache: false, worker: false };
    const llm = await embergram.Llm.load({ model: "/tiny.gguf", ...options });
    const params = { temperature: 0, max_tokens: 200, ignore_eos: true };
    const order = [];
    const stream = (async () => {
      for await (const _ of llm.stream("water", params)) order.push("token");
    })();
    while (order.length < 3) await new Promise((resolve) => setTimeout(resolve, 1));
    // More than may wait, which shows when all are tokenized.
    const prompts = Array.from({ length: 1600 }, (_, i) => "<|im_start|>".repeat(240) + i);
    const refused = settled(llm.generate(prompts, { max_tokens: 1 }));
    const before = order.length;
    const { error } = await refused;
    const between = order.length - before;
    await stream;
    const metrics = await llm.getMetrics();
    await llm.unload();
    const waiting = embergram.gaugeValue(metrics, "vllm:num_requests_waiting");
    return { between, code: error?.code, waiting };
  });
  expect(outcome).toMatchObject({ code: "queue_full", waiting: 0 });
  // Held up, there is time for one step.
  expect(outcome.between).toBeGreaterThan(10);
});

test("more than may wait is refused with queue_full", async () => {
  const outcome = await page.evaluate(async () => {
    const { error } = await settled(llm.generate(Array.from({ length: 9 }, () => "water"), { max_tokens: 1 }));
    const whole = await llm.generate(Array.from({ length: 6 }, () => "water"), { max_tokens: 1 });
    return [error?.code, whole.length];
  });
  expect(outcome).toEqual(["queue_full", 6]);
});

test("logits with a NaN end their own output with an error; OpenAI's door throws it", async () => {
  const outcome = await page.evaluate(async () => {
    const bad = await embergram.Llm.load({ model: "/corrupt.gguf", max_model_len: 128, max_num_seqs: 4, cache: false });
    const params = { temperature: 0, max_tokens: 2, ignore_eos: true };
    const [corrupt, sound] = await bad.generate([[290, 300], [290, 291]], params);
    const sampled = await bad.generate([[290, 300]], { max_tokens: 2 });
    const { error } = await settled(bad.completions.create({ prompt: [290, 300], max_tokens: 2 }));
    const counted = (await bad.getMetrics()).find(({ name }) => name === "vllm:corrupted_requests");
    await bad.unload();
    return { corrupt: corrupt.outputs[0], sound: sound.outputs[0], sampled: sampled[0].outputs[0], error, counted };
  });
  expect(outcome.corrupt).toMatchObject({ finish_reason: "error", token_ids: [], error: { code: "corrupted_logits" } });
  expect(outcome.sampled).toMatchObject({ finish_reason: "error", error: { code: "corrupted_logits" } });
  expect(outcome.sound).toMatchObject({ finish_reason: "length", error: null });
  expect(outcome.error).toMatchObject({ name: "EmbergramError", code: "corrupted_logits" });
  expect(outcome.counted).toMatchObject({ type: "counter", value: 3 });
}, 120_000);
