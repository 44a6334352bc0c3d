// `Llm.inspect`: what a model takes and whether it runs here, by its headers, in a real Chromium against a server that counts.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { syntheticModel } from "../../scripts/setup.mjs";
import { hfFolder } from "../support/hf-folder.mjs";
import { hub } from "../support/hub.mjs";
import { serve } from "../support/server.mjs";
import { helpers, open } from "./harness.mjs";

const MIB = 1 << 20;
const exposed = { "access-control-allow-origin": "*", "access-control-allow-headers": "*", "access-control-expose-headers": "content-range, etag" };
const tiny = readFileSync(process.env.EMBERGRAM_TINY_MODEL);
const folder = hfFolder();
let browser;
let page;
let server;
beforeAll(async () => {
  [browser, server] = await Promise.all([open({ places: { "/folder/": folder } }), serve({ headers: exposed })]);
  page = browser.page;
  await page.evaluate(helpers);
}, 300_000);
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

const inspect = (model, options = {}) =>
  page.evaluate(([model, options]) => settled(embergram.Llm.inspect(model, options)), [model, options]);
const kept = () => page.evaluate(() => embergram.modelCache.size());
const here = { backend: "cpu", reason: null, adapter: { backend: "cpu", threads: 1 } };

test.each([
  ["EMBERGRAM_MODEL", { architecture: "llama", parameters: 134_515_008, kv_bytes_per_token: 46_080, context: 8192, max_model_len: 5824, vocab_size: 49_152 }],
  ["EMBERGRAM_QWEN2", { architecture: "qwen2", kv_bytes_per_token: 24_576, context: 32_768, max_model_len: 10_912, vocab_size: 151_936 }],
  ["EMBERGRAM_GEMMA3", { architecture: "gemma3", kv_bytes_per_token: 36_864, context: 32_768, max_model_len: 7280, vocab_size: 262_144 }],
])("%s: a few requests, a small part of the file, nothing kept", async (name, model) => {
  const bytes = readFileSync(process.env[name]);
  server.file(`/${name}.gguf`, bytes);
  const { value, error } = await inspect(`${server.origin}/${name}.gguf`);
  expect(error).toBeUndefined();
  expect(value).toMatchObject({ ...here, download_bytes: bytes.length, model });
  // The CPU's kernels have the weights in a layout of their own.
  expect(value.model.weight_bytes).toBeGreaterThan(bytes.length * 0.9);
  expect(value.model.weight_bytes).toBeLessThan(bytes.length * 1.5);
  const requests = server.of(`/${name}.gguf`);
  expect(requests.every(({ method, headers }) => method === "GET" && /^bytes=\d+-\d+$/.test(headers.range))).toBe(true);
  expect(requests.length).toBeLessThanOrEqual(6);
  expect(requests.reduce((sum, { sent }) => sum + sent, 0)).toBeLessThanOrEqual(16 * MIB);
  expect(await kept()).toBe(0);
  // On WebGPU they are all of the file but the header.
  const webgpu = (await inspect(`${server.origin}/${name}.gguf`, { backend: "webgpu" })).value;
  expect(webgpu.model).toMatchObject(model);
  expect(webgpu.model.weight_bytes).toBeGreaterThan(bytes.length * 0.9);
  expect(webgpu.model.weight_bytes).toBeLessThan(bytes.length * 1.1);
  server.reset();
});

test("what it tells is what a load finds", async () => {
  const { told, loaded, bytes } = await page.evaluate(async () => {
    const options = { kv_cache_memory_bytes: 100_000 };
    const told = await embergram.Llm.inspect("/tiny.gguf", { ...options, cache: false });
    const llm = await embergram.Llm.load({ model: "/tiny.gguf", ...options, cache: false });
    const bytes = embergram.gaugeValue(await llm.getMetrics(), "embergram:gpu_memory_bytes");
    await llm.unload();
    return { told, loaded: llm.model, bytes };
  });
  expect(told.model.max_model_len).toBe(loaded.max_model_len);
  expect(told.model.vocab_size).toBe(loaded.vocab_size);
  expect(told.adapter).toEqual(loaded.adapter);
  expect(bytes).toBeGreaterThan(told.model.weight_bytes);
});

test("the backend that options ask for", async () => {
  const webgpu = (await inspect("/tiny.gguf", { backend: "webgpu" })).value;
  expect(webgpu).toMatchObject({ backend: "webgpu", reason: null, adapter: { backend: "webgpu", name: expect.any(String) } });
  const cpu = (await inspect("/tiny.gguf", { backend: "cpu", threads: 3 })).value;
  expect(cpu).toMatchObject(here);
  expect(cpu.model).toEqual({ ...webgpu.model, weight_bytes: expect.any(Number) });
  const { error } = await inspect("/tiny.gguf", { backend: "gpu" });
  expect(error).toMatchObject({ code: "invalid_config", message: expect.stringContaining('"webgpu"') });
});

test("a split model, by an address and as files", async () => {
  const first = syntheticModel("tiny-parts.gguf", ["--shape", "tiny", "--split", "8"], "tiny-parts-00001-of-00003.gguf");
  const names = readdirSync(dirname(first)).filter((name) => /^tiny-parts-\d+-of/.test(name));
  for (const name of names) server.file(`/${name}`, readFileSync(join(dirname(first), name)));
  const whole = (await inspect("/tiny.gguf")).value;
  const split = (await inspect(`${server.origin}/${names[1]}`)).value;
  expect(split.model).toEqual(whole.model);
  expect(split.download_bytes).toBe(names.reduce((sum, name) => sum + statSync(join(dirname(first), name)).size, 0));
  const files = await page.evaluate(async ([origin, names]) => {
    const files = await Promise.all(names.map(async (name) => new File([await (await fetch(`${origin}/${name}`)).blob()], name)));
    return embergram.Llm.inspect(files.reverse());
  }, [server.origin, names]);
  expect(files).toEqual(split);
});

test("a Hugging Face folder: at an address, from a hub, quantised", async () => {
  const names = readdirSync(folder).filter((name) => name.includes("."));
  const total = names.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  const { tree, file } = hub(server, "some/model", Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name))])));
  const model = { architecture: "llama", parameters: 149_952, weight_bytes: 599_808, kv_bytes_per_token: 768, context: 256, max_model_len: 256, vocab_size: 320 };
  expect((await inspect("/folder/")).value).toMatchObject({ ...here, download_bytes: total, model });
  const quantised = (await inspect("hf:some/model", { hfEndpoint: server.origin, quantization: "q8_0" })).value;
  expect(quantised).toMatchObject({ ...here, download_bytes: total });
  expect(quantised.model.weight_bytes).toBeLessThan(model.weight_bytes / 3);
  expect(server.requests.map(({ path }) => path).slice(-3)).toEqual([tree, file("config.json"), file("model.safetensors")]);
  expect(await kept()).toBe(0);
});

/** The tiny model with another text in place of one of the same length. */
function changed(from, to) {
  const bytes = Buffer.from(tiny);
  const at = bytes.indexOf(from);
  expect(at).toBeGreaterThan(0);
  bytes.write(to, at);
  return bytes;
}

test.each([
  ["an architecture of another family", changed("llama", "bloom"), {}, "unsupported_model", "bloom", false],
  ["a tensor under another name", changed("blk.1.attn_q.weight", "blk.1.attn_q.biases"), {}, "invalid_tensor", "attn_q", false],
  ["no model", Buffer.from("Dear Sir or Madam, ".repeat(9)), {}, "invalid_file", "GGUF", false],
  ["the beginning of one", tiny.subarray(0, 2000), {}, "truncated_file", "ends inside its header", false],
  ["a longer context than it has", tiny, { max_model_len: 100_000 }, "invalid_config", "512", true],
  ["a longer context than the KV cache holds", tiny, { max_model_len: 500, kv_cache_memory_bytes: 20_000 }, "invalid_config", "kv_cache_memory_bytes", true],
])("does not run here, and why: %s", async (name, bytes, options, code, says, described) => {
  const path = `/${name.replaceAll(/\W/g, "-")}.gguf`;
  server.file(path, bytes);
  const { value } = await inspect(server.origin + path, options);
  expect(value).toMatchObject({ backend: null, reason: { code, message: expect.stringContaining(says) }, download_bytes: bytes.length });
  expect(value.model !== null).toBe(described);
});

test("an adapter with smaller bindings, and none: the model is described all the same", async () => {
  const small = await page.evaluate(async () => {
    const limit = Object.getOwnPropertyDescriptor(GPUSupportedLimits.prototype, "maxStorageBufferBindingSize");
    Object.defineProperty(GPUSupportedLimits.prototype, "maxStorageBufferBindingSize", { ...limit, get: () => 1000 });
    try {
      return await embergram.Llm.inspect("/tiny.gguf", { backend: "webgpu", worker: false });
    } finally {
      Object.defineProperty(GPUSupportedLimits.prototype, "maxStorageBufferBindingSize", limit);
    }
  });
  expect(small).toMatchObject({ backend: null, reason: { code: "adapter_too_small" }, model: { architecture: "llama" } });
  const without = await open({ webgpu: false, fresh: true });
  try {
    const [none, cpu] = await without.page.evaluate(() => Promise.all([{ backend: "webgpu" }, {}].map((o) => embergram.Llm.inspect("/tiny.gguf", o))));
    expect(none).toMatchObject({ backend: null, reason: { code: "no_webgpu" }, adapter: null, model: small.model });
    expect(cpu).toMatchObject({ ...here, model: { architecture: "llama" } });
  } finally {
    await without.close();
  }
}, 120_000);

test("what is no answer is an error", async () => {
  const errors = await page.evaluate(async () => {
    const { Llm } = embergram;
    const stop = new AbortController();
    const aborted = settled(Llm.inspect("/tiny.gguf", { signal: stop.signal, fetch: () => new Promise(() => {}) }));
    setTimeout(() => stop.abort(), 500);
    const all = [
      Llm.inspect("/nowhere.gguf"), Llm.inspect("http://127.0.0.1:9/m.gguf", { retries: 0 }), Llm.inspect("/tiny.gguf", { max_num_sequences: 1 }),
      Llm.inspect("hf:one"), Llm.inspect(undefined),
    ];
    return (await Promise.all([aborted, ...all.map(settled)])).map(({ error }) => `${error?.name} ${error?.code}`);
  });
  expect(errors).toEqual(["aborted", "http", "network", "invalid_config", "invalid_config", "invalid_config"].map((code) => `${code === "aborted" ? "AbortError" : "EmbergramError"} ${code}`));
});

test("a caller's fetch brings the headers", async () => {
  const { told, asked } = await page.evaluate(async () => {
    const asked = [];
    const told = await embergram.Llm.inspect("/tiny.gguf", {
      fetch: (url, init) => (asked.push(new Headers(init.headers).get("range")), fetch(url, init)),
    });
    return { told, asked };
  });
  expect(told.backend).toBe("cpu");
  expect(asked).toEqual(["bytes=0-262143"]);
});
