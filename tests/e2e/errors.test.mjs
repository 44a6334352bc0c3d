// Loads in a real Chromium that go wrong, and those that must not: files, downloads that break, the cache.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { launch } from "../../scripts/browser.mjs";
import { serve } from "../support/server.mjs";
import { helpers, open } from "./harness.mjs";

const tiny = readFileSync(process.env.EMBERGRAM_TINY_MODEL);
const cors = {
  "access-control-allow-origin": "*", "access-control-allow-headers": "*",
  "access-control-expose-headers": "content-length, content-range, accept-ranges, etag",
};
let browser;
let page;
let models;
beforeAll(async () => {
  browser = await open();
  page = browser.page;
  models = await serve({ headers: cors });
  await page.evaluate(helpers);
  await page.evaluate((origin) => {
    globalThis.origin = origin;
    /** Loads, and frees at once: what is loaded, or the error; with it the phases that were told. */
    globalThis.load = async (options) => {
      const progress = [];
      const { value, error } = await settled(embergram.Llm.load({ onProgress: (p) => progress.push(p), ...options }));
      await value?.unload();
      return { model: value?.model, error, progress };
    };
  }, models.origin);
}, 300_000);
afterAll(async () => {
  await browser?.close();
  await models?.close();
});
beforeEach(async () => {
  models.reset();
  models.file("/tiny.gguf", tiny);
  await page.evaluate(() => embergram.modelCache.clear());
});

const load = (options) => page.evaluate((options) => load(options), options);
const url = (name) => `${models.origin}/${name}`;

test("files that are no models, or not whole, or not there", async () => {
  models.file("/page.gguf", Buffer.from("<!doctype html><title>not a model</title>".repeat(50)));
  models.file("/empty.gguf", Buffer.alloc(0));
  models.file("/head.gguf", tiny.subarray(0, 2000));
  models.file("/most.gguf", tiny.subarray(0, tiny.length - 100));
  models.fault("/gone.gguf", () => ({ status: 410 }));
  const codes = {};
  for (const name of ["page", "empty", "head", "most", "missing", "gone"]) {
    const { error } = await load({ model: url(`${name}.gguf`) });
    expect(error?.message.length).toBeGreaterThan(15);
    codes[name] = error.code;
  }
  expect(codes).toEqual({
    page: "invalid_file", empty: "truncated_file", head: "truncated_file", most: "truncated_file", missing: "http", gone: "http",
  });
  // A damaged model does not stay in the cache for the day when the server's is mended.
  models.file("/most.gguf", tiny, { etag: '"v2"' });
  expect((await load({ model: url("most.gguf") })).error).toBeUndefined();
});

test("options that are unknown or out of range are refused before a byte is asked for", async () => {
  const wrong = [
    { max_num_seq: 4 }, { max_model_len: 0 }, { block_size: 12 }, { max_num_seqs: 1.5 }, { seed: "one" },
    { speculative_config: { method: "ngram", num_speculative_tokens: 3, prompt_lookup_min: 3, prompt_lookup_max: 2 } },
    { max_model_len: 100_000 },
  ];
  const codes = [];
  for (const options of wrong) codes.push((await load({ model: url("tiny.gguf"), ...options })).error?.code);
  expect(codes).toEqual(wrong.map(() => "invalid_config"));
  for (const model of [undefined, "hf:nonsense"]) expect((await load({ model })).error?.code).toBe("invalid_config");
});

test("an abort ends a download's retries; one cut at 40 % is gone on with", async () => {
  const cut = Math.round(tiny.length * 0.4);
  await models.stop();
  const down = await page.evaluate((model) => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 1500);
    // Retries with back-off take a quarter of a minute: an abort ends them too.
    return load({ model, signal: stop.signal });
  }, url("tiny.gguf"));
  expect(down.error.code).toBe("aborted");
  await models.start();
  models.fault("/tiny.gguf", (_, count) => (count === 1 ? { cutAfter: cut } : undefined));
  models.requests.length = 0;
  const { error, progress } = await load({ model: url("tiny.gguf") });
  expect(error).toBeUndefined();
  const gets = models.of("/tiny.gguf").filter((r) => r.method === "GET");
  expect(gets).toHaveLength(2);
  // The last KiB is fetched again, to compare it.
  expect(gets[1].headers.range).toBe(`bytes=${cut - 1024}-`);
  expect(gets[1].sent).toBe(tiny.length - cut + 1024);
  expect(progress.at(-1)).toMatchObject({ phase: "ready", loaded: tiny.length, total: tiny.length });
});

test("a connection that breaks for good is network, and so is a server that is away", async () => {
  const cut = Math.round(tiny.length * 0.4);
  models.fault("/tiny.gguf", ({ headers }) => (headers.range ? { cutAfter: 0 } : { cutAfter: cut }));
  const broken = await load({ model: url("tiny.gguf"), retries: 2, retryDelay: 50 });
  expect(broken.error).toMatchObject({ name: "EmbergramError", code: "network" });
  await models.stop();
  const { error } = await load({ model: url("tiny.gguf"), cache: false, retries: 1, retryDelay: 50 });
  await models.start();
  expect(error).toMatchObject({ name: "EmbergramError", code: "network" });
});

test("the second load comes from OPFS with the server switched off", async () => {
  const first = await load({ model: url("tiny.gguf") });
  expect(first.error).toBeUndefined();
  await models.stop();
  const second = await load({ model: url("tiny.gguf") });
  await models.start();
  expect(second.error).toBeUndefined();
  expect(second.model).toEqual(first.model);
  expect(new Set(second.progress.map((p) => p.phase))).toEqual(new Set(["gpu", "cache", "build", "ready"]));
});

test("File and Blob are read where they are; a custom fetch brings the bytes from elsewhere", async () => {
  const got = await page.evaluate(async (model) => {
    const bytes = await (await fetch(model)).blob();
    const asked = [];
    const custom = (input, init) => {
      asked.push(String(input));
      return fetch(input, { ...init, headers: { ...init?.headers, authorization: "Bearer secret" } });
    };
    return {
      file: await load({ model: new File([bytes], "a.gguf") }),
      blob: await load({ model: bytes }),
      custom: await load({ model, fetch: custom }),
      address: await load({ model: new URL(model) }),
      half: await load({ model: new File([bytes.slice(0, 3000)], "a.gguf") }),
      asked,
    };
  }, url("tiny.gguf"));
  for (const kind of ["file", "blob", "custom", "address"]) expect([kind, got[kind].error]).toEqual([kind, undefined]);
  expect(got.file.progress.map((p) => p.phase)).toContain("file");
  expect(got.half.error.code).toBe("truncated_file");
  expect(got.asked).toContain(url("tiny.gguf"));
  expect(models.of("/tiny.gguf").filter((r) => r.method === "GET").at(-1).headers).toMatchObject({ authorization: "Bearer secret", range: "bytes=0-" });
});

test("a worker that is not there, a module that is not there", async () => {
  const { worker, wasm } = await page.evaluate(async () => ({
    worker: await load({ model: "/tiny.gguf", workerUrl: "/nowhere.js" }),
    wasm: await load({ model: "/tiny.gguf", wasmUrl: "/nowhere.wasm" }),
  }));
  expect(worker.error).toMatchObject({ name: "EmbergramError", code: "internal" });
  expect(worker.error.message).toContain("workerUrl");
  expect(wasm.error).toMatchObject({ name: "EmbergramError" });
  expect((await load({ model: url("tiny.gguf") })).error).toBeUndefined();
});

test("without WebGPU: supported() says why, the CPU generates, and a load that wants WebGPU is no_webgpu", async () => {
  const context = await launch({ webgpu: false });
  try {
    const tab = await context.newPage();
    await tab.goto(browser.server.url);
    // As text: vitest would rewrite the import.
    const got = await tab.evaluate(`(async () => {
      const { Llm } = await import("/dist/index.js");
      const load = (options) => Llm.load({ model: "/tiny.gguf", max_model_len: 64, ...options });
      const error = await load({ backend: "webgpu" }).then(() => null, ({ name, code, message }) => ({ name, code, message }));
      const llm = await load({});
      const [{ outputs: [{ token_ids }] }] = await llm.generate("the", { max_tokens: 6, temperature: 0, ignore_eos: true });
      await llm.unload();
      return { supported: await Llm.supported(), error, tokens: token_ids.length, adapter: llm.model.adapter };
    })()`);
    const adapter = { backend: "cpu", threads: 1, software: true };
    expect(got.supported).toMatchObject({
      backend: "cpu", adapter, webgpu: false, webgpu_adapter: null, limits: null, max_tensor_bytes: 0, cpu: { simd: true, threads: 1 },
    });
    expect(got.tokens).toBe(6);
    expect(got.adapter).toMatchObject(adapter);
    expect(got.supported.reason.length).toBeGreaterThan(20);
    expect(got.error).toMatchObject({ name: "EmbergramError", code: "no_webgpu" });
  } finally {
    await context.close();
  }
});
