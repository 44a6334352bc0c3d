// A GPU that computes a kernel wrongly is found at load, and not taken again. Shaders are broken on their way to the driver.
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
  await page.evaluate(async () => {
    await caches.delete("embergram");
    globalThis.broken = undefined;
    const { createShaderModule } = GPUDevice.prototype;
    GPUDevice.prototype.createShaderModule = function (descriptor) {
      const code = globalThis.broken ? descriptor.code.replaceAll(...globalThis.broken) : descriptor.code;
      return createShaderModule.call(this, { ...descriptor, code });
    };
    globalThis.load = (options) => embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 64, worker: false, ...options });
    globalThis.said = [];
    console.warn = (...words) => said.push(words.join(" "));
  });
});

test("an explicit WebGPU load ends with the kernel's name, and supported() remembers it", async () => {
  const { error, before, after } = await page.evaluate(async () => {
    const before = await embergram.Llm.supported();
    globalThis.broken = ["exp(-v.xy)", "exp(v.xy)"];
    const error = await load({ backend: "webgpu" }).then(() => null, ({ code, message }) => ({ code, message }));
    return { error, before, after: await embergram.Llm.supported() };
  });
  expect(error).toMatchObject({ code: "no_webgpu", message: expect.stringContaining("gate_up") });
  expect(error.message).toContain("please report it");
  expect(before.webgpu_adapter.wrong_kernel).toBeUndefined();
  expect(after.webgpu_adapter).toMatchObject({ ...before.webgpu_adapter, wrong_kernel: "gate_up" });
  expect(after.backend).toBe("cpu");
});

test("auto on a GPU falls back to the CPU, says why, and goes there at once the next time", async () => {
  const got = await page.evaluate(async () => {
    // An adapter that says of itself that it is a GPU gets a GPU's kernels.
    Object.defineProperty(GPUAdapter.prototype, "info", {
      get: () => ({ vendor: "acme", architecture: "roadrunner", device: "", description: "A GPU", isFallbackAdapter: false }),
    });
    globalThis.broken = ["p <= position_0", "p < position_0"];
    const loads = [];
    for (let i = 0; i < 2; i++) {
      const llm = await load();
      const [{ outputs: [{ token_ids }] }] = await llm.generate("the", { max_tokens: 4, temperature: 0, ignore_eos: true });
      const wrong = embergram.gaugeValue(await llm.getMetrics(), "embergram:wrong_kernel");
      loads.push({ adapter: llm.model.adapter, tokens: token_ids.length, wrong });
      await llm.unload();
    }
    globalThis.broken = undefined;
    return { loads, said };
  });
  const [first, second] = got.loads;
  for (const load of [first, second]) {
    expect(load).toMatchObject({ tokens: 4, wrong: 1, adapter: { backend: "cpu", wrong_kernel: expect.stringContaining("attention") } });
  }
  expect(got.said).toEqual([expect.stringMatching(/A GPU.*attention.*please report it/)]);
});

test("kernels that are right are taken, and not asked again", async () => {
  const { backends, keys } = await page.evaluate(async () => {
    const backends = [];
    for (let i = 0; i < 2; i++) {
      const llm = await load({ backend: "webgpu" });
      backends.push(llm.model.adapter.backend);
      await llm.unload();
    }
    const keys = await (await caches.open("embergram")).keys();
    return { backends, keys: keys.filter(({ url }) => url.includes("wrong%20kernel")).length };
  });
  expect(backends).toEqual(["webgpu", "webgpu"]);
  expect(keys).toBe(1);
});
