// Whether rows depend on their company is remembered for an adapter: for how long, for which, and what doubts it.
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { open } from "./harness.mjs";

let browser;
let page;
beforeAll(async () => {
  browser = await open({ fresh: true });
});
afterAll(() => browser?.close());
beforeEach(async () => {
  page = await browser.newPage();
  await page.evaluate(() => {
    globalThis.load = () => embergram.Llm.load({ model: "/tiny.gguf", backend: "webgpu", max_model_len: 64, worker: false });
    const facts = async (change) => {
      const cache = await caches.open("embergram");
      const all = [];
      for (const key of await cache.keys()) {
        // What the known answer keeps is another fact.
        if (key.url.includes("wrong%20kernel")) continue;
        const fact = await (await cache.match(key)).json();
        if (change) await cache.put(key, Response.json({ ...fact, ...change }));
        all.push(fact);
      }
      return all;
    };
    globalThis.facts = facts;
    globalThis.single = async (llm) => embergram.gaugeValue(await llm.getMetrics(), "embergram:single_kernel_path");
    // Each tile has a shader of its own.
    globalThis.compiled = new Set();
    const { createShaderModule } = GPUDevice.prototype;
    GPUDevice.prototype.createShaderModule = function (descriptor) {
      compiled.add(descriptor.code);
      return createShaderModule.call(this, { ...descriptor, code: globalThis.altered?.(descriptor.code) ?? descriptor.code });
    };
  });
});

const day = 24 * 3600 * 1000;

test("an answer lasts for a week, and an adapter without a name gets none", async () => {
  const got = await page.evaluate(async (day) => {
    await caches.delete("embergram");
    const round = async (age) => {
      const changed = Date.now() - age;
      await facts({ time: changed });
      const llm = await load();
      await llm.unload();
      const [{ value, time }] = await facts();
      return { value, kept: time === changed };
    };
    const first = await round(0);
    const later = [await round(6 * day), await round(8 * day)];
    await caches.delete("embergram");
    Object.defineProperty(GPUAdapter.prototype, "info", { get: () => ({ vendor: "acme", architecture: "", device: "", description: "" }) });
    await (await load()).unload();
    return { first, later, unnamed: await facts() };
  }, day);
  expect(got.first).toEqual({ value: "false", kept: false });
  expect(got.later.map(({ kept }) => kept)).toEqual([true, false]);
  expect(got.unnamed).toEqual([]);
});

test("pipelines that a load checks are compiled beside each other, and none twice", async () => {
  const { begun, alone, shaders } = await page.evaluate(async () => {
    await caches.delete("embergram");
    const { prototype } = GPUDevice;
    const { createComputePipeline, createComputePipelineAsync } = prototype;
    const counts = { begun: 0, alone: 0 };
    prototype.createComputePipelineAsync = function (descriptor) {
      counts.begun += 1;
      return createComputePipelineAsync.call(this, descriptor);
    };
    prototype.createComputePipeline = function (descriptor) {
      counts.alone += 1;
      return createComputePipeline.call(this, descriptor);
    };
    const llm = await load();
    await llm.generate("the", { max_tokens: 3, temperature: 0 });
    await llm.unload();
    return { ...counts, shaders: compiled.size };
  });
  expect(begun).toBeGreaterThan(10);
  expect(shaders).toBe(begun);
  expect(alone).toBe(0);
});

test("a remembered answer is checked again when nobody wants anything; one that holds stays", async () => {
  const { all, remembered, value } = await page.evaluate(async () => {
    await caches.delete("embergram");
    await (await load()).unload();
    const all = compiled.size;
    compiled.clear();
    globalThis.llm = await load();
    return { all, remembered: compiled.size, value: await single(llm) };
  });
  expect(remembered).toBeLessThan(all / 2);
  await expect.poll(() => page.evaluate(() => compiled.size), { timeout: 60_000 }).toBe(all);
  expect(value).toBe(0);
  const end = await page.evaluate(async () => {
    const end = { value: await single(llm), facts: (await facts()).map(({ value }) => value) };
    await llm.unload();
    return end;
  });
  expect(end).toEqual({ value: 0, facts: ["false"] });
});

test("a driver that rounds otherwise now is found out: the single path from then on, and the answer is forgotten", async () => {
  const { before, tokens, again } = await page.evaluate(async () => {
    await caches.delete("embergram");
    await (await load()).unload();
    // Six rows together round otherwise than one.
    globalThis.altered = (code) => (code.includes("slot_5") && !code.includes("slot_6") ? code.replace("logits[at + 0u] = v[0]", "logits[at + 0u] = v[0] * 1.000001") : code);
    globalThis.llm = await load();
    globalThis.generate = async () => {
      const prompt = Array.from({ length: 20 }, (_, i) => 300 + i);
      const [{ outputs: [{ token_ids, metrics }] }] = await llm.generate(prompt, { max_tokens: 8, temperature: 0, ignore_eos: true });
      return { tokens: token_ids, cached: metrics.num_cached_tokens };
    };
    return { before: await single(llm), tokens: (await generate()).tokens, again: await generate() };
  });
  expect(before).toBe(0);
  expect(again).toEqual({ tokens, cached: 16 });
  await expect.poll(() => page.evaluate(async () => (await facts()).length), { timeout: 60_000 }).toBe(0);
  const after = await page.evaluate(async () => {
    const after = { value: await single(llm), ...(await generate()) };
    await llm.unload();
    return after;
  });
  // What the old kernels computed is not used any more.
  expect(after).toEqual({ value: 1, tokens, cached: 0 });
});
