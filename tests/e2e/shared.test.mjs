// `worker: "shared"`: tabs of an origin share an engine, its steps and its memory; each takes its own calls along when it goes.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve } from "../support/server.mjs";
import { helpers, open } from "./harness.mjs";

let browser;
let first;
let server;
const tab = async () => {
  const page = await browser.newPage();
  await page.evaluate(helpers);
  await page.evaluate(() => {
    globalThis.load = async (more = {}) => {
      const phases = [];
      globalThis.llm = await embergram.Llm.load({
        model: "/tiny.gguf", max_model_len: 512, max_num_seqs: 4, worker: "shared", backend: "cpu", onProgress: ({ phase }) => phases.push(phase), ...more,
      });
      return [...new Set(phases)];
    };
    globalThis.gauge = async (name) => embergram.gaugeValue(await llm.getMetrics(), name);
    globalThis.count = async (name) => embergram.counterValue(await llm.getMetrics(), name);
    globalThis.long = { temperature: 0, max_tokens: 450, ignore_eos: true };
    globalThis.ids = async (prompt, params) => (await llm.generate(prompt, params))[0].outputs[0].token_ids;
  });
  return page;
};
beforeAll(async () => {
  [browser, server] = await Promise.all([
    open(), serve({ headers: { "access-control-allow-origin": "*", "access-control-allow-headers": "*", "access-control-expose-headers": "*" } }),
  ]);
  first = await tab();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

test("the second tab joins the first one's engine, and their requests run in the same steps", async () => {
  const second = await tab();
  expect(await first.evaluate(() => load())).toEqual(expect.arrayContaining(["gpu", "build", "ready"]));
  // Nothing is loaded again.
  expect(await second.evaluate(() => load())).toEqual([]);
  const memory = (page) => page.evaluate(() => gauge("embergram:gpu_memory_bytes"));
  expect(await memory(second)).toBe(await memory(first));
  // The first request of each tab has the same number there.
  const both = await Promise.all([first, second].map((page, i) => page.evaluate(async (prompt) => ids(prompt, long), ["the cat", "one two three"][i])));
  const steps = await first.evaluate(async () => embergram.histogram(await llm.getMetrics(), "embergram:step_time_seconds").count);
  expect(steps).toBeLessThan(700);
  expect(await first.evaluate(() => count("vllm:generation_tokens"))).toBe(900);
  expect(await second.evaluate(() => count("vllm:generation_tokens"))).toBe(900);
  // As in an engine of one's own.
  const alone = await first.evaluate(async () => {
    const own = await embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 512, backend: "cpu" });
    const outputs = await own.generate(["the cat", "one two three"], long);
    await own.unload();
    return outputs.map(({ outputs: [{ token_ids }] }) => token_ids);
  });
  expect(both).toEqual(alone);
  await second.evaluate(() => llm.unload());
  expect(await first.evaluate(() => ids("the cat", { ...long, max_tokens: 4 }))).toEqual(alone[0].slice(0, 4));
  await second.close();
});

test("a tab that closes in the middle takes its request along, and no other", async () => {
  const second = await tab();
  await second.evaluate(() => load());
  const expected = await first.evaluate(() => ids("a", long));
  // A processor that never answers would hold up everybody.
  const going = first.evaluate(async () => {
    const tokens = [];
    for await (const { token_ids } of llm.stream("a", long)) {
      tokens.push(...token_ids);
      await new Promise((done) => setTimeout(done, 2));
    }
    return tokens;
  });
  await second.evaluate(() => {
    globalThis.calls = 0;
    void llm.generate("two", { ...long, logits_processors: [() => (++calls > 20 ? new Promise(() => {}) : undefined)] }).catch(() => {});
  });
  await second.waitForFunction(() => calls > 20);
  await second.close();
  expect(await going).toEqual(expected);
  await expect.poll(() => first.evaluate(() => gauge("vllm:num_requests_running"))).toBe(0);
  const aborted = await first.evaluate(async () => embergram.counterValue(await llm.getMetrics(), "vllm:request_success", { finished_reason: "abort" }));
  expect(aborted).toBe(1);
});

test("other options are another engine; the last tab out ends it", async () => {
  const second = await tab();
  expect(await second.evaluate(() => load({ max_model_len: 256 }))).toContain("ready");
  expect(await second.evaluate(() => llm.model.max_model_len)).toBe(256);
  expect(await second.evaluate(() => count("vllm:generation_tokens"))).toBe(0);
  await second.evaluate(() => llm.unload());
  await first.evaluate(() => llm.unload());
  // A fresh one.
  expect(await second.evaluate(() => load())).toContain("ready");
  expect(await second.evaluate(() => count("vllm:generation_tokens"))).toBe(0);
  await second.close();
});

test("two tabs load at once: one download; the one that began it closes, and the other gets the model", async () => {
  server.file("/slow.gguf", readFileSync(process.env.EMBERGRAM_TINY_MODEL));
  server.fault("/slow.gguf", () => ({ rate: 200_000 }));
  const [second, third] = [await tab(), await tab()];
  const start = (page) => page.evaluate((model) => {
    globalThis.phases = [];
    globalThis.loading = load({ model, cache: false, onProgress: ({ phase }) => phases.push(phase) });
    loading.catch(() => {});
  }, `${server.origin}/slow.gguf`);
  await start(second);
  await second.waitForFunction(() => phases.includes("download"));
  await start(third);
  await third.waitForFunction(() => phases.includes("download"));
  await second.close();
  await third.evaluate(() => loading);
  expect(await third.evaluate(() => ids("the cat", { ...long, max_tokens: 4 }))).toHaveLength(4);
  expect(server.requests.filter(({ path, method }) => path === "/slow.gguf" && method === "GET")).toHaveLength(1);
  await third.close();
});

test("what cannot be shared is refused, and a load that fails can be tried again", async () => {
  const refused = await first.evaluate(async () => [
    await settled(load({ model: new File(["x"], "x.gguf") })), await settled(load({ fetch })), await settled(load({ worker: "often" })),
    await settled(load({ model: "/missing.gguf" })), await settled(load({ model: "/missing.gguf" })),
  ]);
  expect(refused.map(({ error }) => error?.code)).toEqual(["invalid_config", "invalid_config", "invalid_config", "http", "http"]);
  expect(refused[2].error.message).toBe('worker is "often", but must be true, false or "shared"');
});

test("on WebGPU", async () => {
  const got = await first.evaluate(async () => {
    await load({ backend: "webgpu", max_model_len: 64 });
    const { backend } = llm.model.adapter;
    const tokens = await ids("the cat", { temperature: 0, max_tokens: 8, ignore_eos: true });
    await llm.unload();
    return { backend, tokens };
  });
  expect(got).toEqual({ backend: "webgpu", tokens: expect.any(Array) });
  expect(got.tokens).toHaveLength(8);
}, 120_000);
