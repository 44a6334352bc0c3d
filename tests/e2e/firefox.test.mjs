// The package in Firefox: loads the tiny model in its worker, generates, streams, aborts, counts; on
// WebGPU, and on the CPU where there is none, with threads. There the demo page generates too.
import puppeteer from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ISOLATED } from "../../scripts/backend.mjs";
import { enterPackage, servePackage } from "../../scripts/browser.mjs";
import { buildDemo, serveDemo } from "../../scripts/demo.mjs";
import { firefox } from "../../scripts/setup.mjs";

const executablePath = firefox();

describe.each(["webgpu", "cpu"])("Firefox, %s", (backend) => {
  let browser;
  let server;
  beforeAll(async () => {
    server = await servePackage({ "/tiny.gguf": process.env.EMBERGRAM_TINY_MODEL }, { headers: ISOLATED });
    // WebGPU is behind a preference on Linux, and software adapters behind another.
    const webgpu = backend === "webgpu";
    const extraPrefsFirefox = { "dom.webgpu.enabled": webgpu, "dom.webgpu.workers.enabled": webgpu, "gfx.webgpu.ignore-blocklist": webgpu };
    browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true, extraPrefsFirefox, protocolTimeout: 600_000 });
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  test("loads, generates, streams, aborts and counts as elsewhere", async () => {
    const page = await browser.newPage();
    await enterPackage(page, server.url);
    const got = await page.evaluate(async (backend) => {
      const { Llm, speculationStats } = globalThis.embergram;
      const supported = await Llm.supported();
      const params = { temperature: 0, max_tokens: 24, ignore_eos: true };
      // What a load takes by itself where there is no WebGPU.
      const load = () => Llm.load({ model: "/tiny.gguf", max_model_len: 256, ...(backend === "webgpu" && { backend }) });
      const prompt = "the light of the world the light of the world";
      const llm = await load();
      const plain = (await llm.generate(prompt, params))[0].outputs[0].token_ids;
      await llm.setSpeculativeConfig({ method: "ngram", num_speculative_tokens: 3, prompt_lookup_min: 1, prompt_lookup_max: 3 });
      const streamed = [];
      for await (const delta of llm.stream(prompt, params)) streamed.push(...delta.token_ids);
      const abort = new AbortController();
      // By the first token: the CPU has all of them in less time than a timer would wait.
      const ended = async () => {
        for await (const _ of llm.stream(prompt, { ...params, max_tokens: 200 }, { signal: abort.signal })) abort.abort();
      };
      const aborted = await ended().then(() => "done", ({ name, code }) => ({ name, code }));
      const stats = speculationStats(await llm.getMetrics());
      const text = await llm.getMetricsText();
      await llm.unload();
      // From the cache now.
      const again = await load();
      const second = (await again.generate(prompt, params))[0].outputs[0].token_ids;
      await again.unload();
      return { supported, adapter: llm.model.adapter, plain, streamed, aborted, stats, text, second };
    }, backend);
    console.log(`Firefox's adapter: ${got.adapter.name}`);
    expect(got.supported.webgpu).toBe(backend === "webgpu");
    expect(got.adapter.backend).toBe(backend);
    if (backend === "cpu") expect(got.adapter.threads).toBe(got.supported.cpu.threads);
    expect(got.plain).toHaveLength(24);
    expect(got.streamed).toEqual(got.plain);
    expect(got.second).toEqual(got.plain);
    expect(got.aborted).toMatchObject({ code: "aborted" });
    expect(got.stats.num_drafts).toBeGreaterThan(0);
    expect(got.text).toContain("vllm:spec_decode_num_drafts_total");
  });

  test.runIf(backend === "cpu")("the demo page loads a model and completes a prompt", async () => {
    await buildDemo();
    const demo = await serveDemo([process.env.EMBERGRAM_TINY_MODEL]);
    const page = await browser.newPage();
    try {
      await page.goto(demo.url);
      await page.waitForFunction(() => document.querySelector("#adapter").textContent.startsWith("CPU, "));
      expect(await page.$eval("#notice", (notice) => notice.textContent)).toContain("No GPU here: the CPU computes, with ");
      const idle = () => page.waitForFunction(() =>
        document.querySelector("#stop").disabled && document.querySelector("#cancel-load").hidden);
      await page.$eval("#load-button", (button) => button.click());
      await page.waitForFunction(() => !document.querySelector("#run").disabled);
      await page.$eval("#tab-prompt", (tab) => tab.click());
      await page.$eval("#prompt", (field) => (field.value = "the light of the world"));
      await page.$eval("#run", (button) => button.click());
      await page.waitForFunction(() => document.querySelector("#prompt-output").textContent.length > 40);
      await idle();
    } finally {
      await page.close();
      await demo.close();
    }
  });
});
