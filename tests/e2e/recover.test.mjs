// `recover: true`: a model whose device is lost is loaded again, and calls in flight go on from their tokens.
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
    globalThis.devices = [];
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      if (globalThis.refuse) throw new Error("no more devices");
      const device = await requestDevice.apply(this, args);
      devices.push(device);
      return device;
    };
    globalThis.load = (options) =>
      embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 96, worker: false, backend: "webgpu", max_num_seqs: 2, ...options });
    // More than run at a time.
    globalThis.prompts = ["the cat the cat", "one two", "a"];
    globalThis.params = [
      { temperature: 0, max_tokens: 40, ignore_eos: true }, { temperature: 0.8, seed: 4, max_tokens: 40, ignore_eos: true, logprobs: 1 },
      { temperature: 0, max_tokens: 30, ignore_eos: true },
    ];
    /** Loses the device when a stream beside them has had so many tokens. */
    globalThis.losing = async (llm, count) => {
      let seen = 0;
      for await (const { token_ids } of llm.stream("two", { temperature: 0, max_tokens: 30, ignore_eos: true })) {
        const before = seen;
        seen += token_ids.length;
        if (before < count && seen >= count) devices.at(-1).destroy();
      }
      return seen;
    };
    globalThis.told = (promise) => promise.then((value) => ({ value }), ({ code, message }) => ({ error: { code, message } }));
  });
});

test("outputs and streams are what they would have been, and say so", async () => {
  const got = await page.evaluate(async () => {
    const llm = await load({ recover: true });
    const expected = await llm.generate(prompts, params);
    const streaming = losing(llm, 8);
    const outputs = await llm.generate(prompts, params);
    const streamed = await streaming;
    const counted = embergram.counterValue(await llm.getMetrics(), "embergram:recoveries");
    const lost = await Promise.race([llm.lost, new Promise((done) => setTimeout(done, 50, "open"))]);
    // Lost while nothing runs: the next call finds it.
    devices.at(-1).destroy();
    const [later] = await llm.generate(prompts.slice(0, 1), params[0]);
    await llm.unload();
    const plain = (outputs) => outputs.map(({ outputs: [{ metrics, ...output }] }) => output);
    const preemptions = outputs.reduce((sum, { metrics }) => sum + metrics.num_preemptions, 0);
    return { expected: plain(expected), outputs: plain(outputs), streamed, counted, lost, later: plain([later])[0], preemptions, devices: devices.length };
  });
  expect(got.outputs).toEqual(got.expected);
  expect(got.later).toEqual(got.expected[0]);
  expect(got).toMatchObject({ streamed: 30, counted: 1, lost: "open", devices: 3 });
  expect(got.preemptions).toBeGreaterThan(0);
});

test("without it, and where no device comes again, calls reject", async () => {
  const got = await page.evaluate(async () => {
    const plain = await load();
    const without = await told(losing(plain, 4));
    const lost = (await plain.lost).code;
    await plain.unload();
    const llm = await load({ recover: true });
    globalThis.refuse = true;
    const refused = await Promise.all([told(losing(llm, 4)), told(llm.generate(prompts, params))]);
    const later = await told(llm.generate("a"));
    await llm.unload();
    return { without, lost, refused, later, wrong: await told(load({ recover: 1 })) };
  });
  expect(got.without.error.code).toBe("device_lost");
  expect(got.lost).toBe("device_lost");
  for (const { error } of [...got.refused, got.later]) {
    expect(error).toMatchObject({ code: "device_lost", message: expect.stringContaining("could not be loaded again") });
  }
  expect(got.wrong.error).toEqual({ code: "invalid_config", message: "recover is 1, but must be true or false" });
});
