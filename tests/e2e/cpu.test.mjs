// The CPU backend in a real Chromium: threads and what they may change, speculation, files that are not there, wrong options.
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { ISOLATED } from "../../scripts/backend.mjs";
import { enterPackage, servePackage } from "../../scripts/browser.mjs";
import { dist } from "../../scripts/build.mjs";
import { serve } from "../support/server.mjs";
import { helpers, open, recordings } from "./harness.mjs";

const MODULES = ["engine_bg.wasm", "kernels.wasm", "kernels_relaxed.wasm"];
const folder = mkdtempSync(join(tmpdir(), "embergram-modules-"));
let browser;
let page;
let server;
beforeAll(async () => {
  for (const name of MODULES) cpSync(join(dist, name), join(folder, name));
  [browser, server] = await Promise.all([open({ isolated: true, places: { "/elsewhere/": folder } }), serve({ root: dist, headers: ISOLATED })]);
  page = browser.page;
  await prepare(page);
}, 300_000);
afterEach(() => server.reset());
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function prepare(page) {
  await page.evaluate(helpers);
  await page.evaluate(() => {
    globalThis.load = (options) => embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 256, ...options });
    globalThis.greedy = { temperature: 0, max_tokens: 12, ignore_eos: true };
  });
}

/** A page of the server that can misbehave. */
async function visit(files = {}) {
  server.file("/", Buffer.from("<!doctype html><title>test</title>"), { "content-type": "text/html" });
  server.file("/tiny.gguf", readFileSync(process.env.EMBERGRAM_TINY_MODEL));
  for (const [path, text] of Object.entries(files)) server.file(path, Buffer.from(text), { "content-type": "text/javascript" });
  const page = await browser.context.newPage();
  await page.goto(server.origin);
  // As text: vitest would rewrite the import.
  await page.evaluate(`import("/index.js").then((embergram) => (globalThis.embergram = embergram))`);
  await prepare(page);
  return page;
}

test("an isolated page has a thread a core, but one of more than two, and says so", async () => {
  const { supported, adapter, cores } = await page.evaluate(async () => {
    const llm = await load();
    await llm.unload();
    return { supported: await embergram.Llm.supported(), adapter: llm.model.adapter, cores: navigator.hardwareConcurrency };
  });
  const threads = cores <= 2 ? cores : Math.min(cores - 1, 8);
  expect(supported).toMatchObject({ backend: "cpu", cpu: { simd: true, relaxed_simd: true, shared_memory: true, threads, advice: null } });
  expect(adapter).toEqual({
    backend: "cpu", name: `CPU, ${threads} thread${threads > 1 ? "s" : ""}, WebAssembly relaxed SIMD`, vendor: "", architecture: "wasm32", software: true, threads,
  });
  expect(supported.adapter).toEqual(adapter);
});

test("a page that is not isolated has one thread, and is told which headers would help", async () => {
  const plain = await servePackage({ "/tiny.gguf": process.env.EMBERGRAM_TINY_MODEL });
  const page = await browser.context.newPage();
  try {
    await enterPackage(page, plain.url);
    await prepare(page);
    const { cpu, adapters } = await page.evaluate(async () => {
      const adapters = [];
      for (const options of [{}, { threads: 3 }]) {
        const llm = await load(options);
        adapters.push(llm.model.adapter);
        await llm.unload();
      }
      return { cpu: (await embergram.Llm.supported()).cpu, adapters };
    });
    expect(cpu).toMatchObject({ shared_memory: false, threads: 1 });
    for (const header of ["Cross-Origin-Opener-Policy: same-origin", "Cross-Origin-Embedder-Policy: require-corp"]) expect(cpu.advice).toContain(header);
    expect(adapters).toMatchObject([{ threads: 1 }, { threads: 1 }]);
  } finally {
    await page.close();
    await plain.close();
  }
});

/** Runs in the page: what a model says with so many threads, to the last bit of every logprob. */
async function said({ model, precision, threads, prompts, max_tokens }) {
  const llm = await load({ model, precision, threads, max_model_len: 512, enable_prefix_caching: false });
  const params = prompts.map((_, i) => ({
    ...(i % 2 ? { temperature: 0.9, seed: i } : { temperature: 0 }), max_tokens, ignore_eos: true, logprobs: 5,
  }));
  const outputs = await llm.generate(prompts, params);
  await llm.unload();
  return { threads: llm.model.adapter.threads, precision: llm.model.precision, outputs: outputs.map(({ outputs: [{ token_ids, logprobs }] }) => ({ token_ids, logprobs })) };
}

test.each([["/tiny.gguf", "full"], ["/tiny.gguf", "fast"], ["/model.gguf", "full"]])("%s, %s: 1, 2 and 3 threads say the same, bit for bit", async (model, precision) => {
  const tiny = model === "/tiny.gguf";
  const recorded = recordings().find(({ name }) => name === "vllm_golden.json").runs["0"].prompts.map((p) => p.prompt_token_ids);
  const words = (n) => Array.from({ length: n }, (_, i) => 300 + ((i * 7919) % 40));
  const prompts = tiny ? [words(1), words(9), words(200), words(33)] : recorded.slice(0, 3);
  const all = [];
  for (const threads of [1, 2, 3]) all.push(await page.evaluate(said, { model, precision, threads, prompts, max_tokens: tiny ? 32 : 12 }));
  expect(all.map(({ threads }) => threads)).toEqual([1, 2, 3]);
  expect(all[0].precision).toBe(precision);
  expect(all[0].outputs[0].logprobs[3].length).toBeGreaterThanOrEqual(5);
  expect(all[1].outputs).toEqual(all[0].outputs);
  expect(all[2].outputs).toEqual(all[0].outputs);
});

test("unload ends the threads, and so does an abort of a load", async () => {
  // A browser with much to do tells of their ends late.
  const PATIENT = { timeout: 20_000 };
  const workers = () => page.workers().length;
  // Those of the test before are gone in a moment.
  await expect.poll(workers, PATIENT).toBe(0);
  await page.evaluate(async () => (globalThis.llm = await load({ threads: 3, worker: false })));
  await expect.poll(workers, PATIENT).toBe(2);
  await page.evaluate(async () => {
    await llm.generate("the", greedy);
    await llm.unload();
  });
  await expect.poll(workers, PATIENT).toBe(0);
  const { error } = await page.evaluate(async () => {
    const stop = new AbortController();
    return settled(load({ threads: 3, worker: false, signal: stop.signal, onProgress: ({ phase }) => phase === "build" && stop.abort() }));
  });
  expect(error).toMatchObject({ code: "aborted" });
  await expect.poll(workers, PATIENT).toBe(0);
  // In the package's worker, which ends with them.
  for (let i = 0; i < 8; i++) {
    await page.evaluate(async () => (await load({ threads: 3 })).unload());
    await expect.poll(workers, PATIENT).toBe(0);
  }
});

test("an abort ends a request between two steps; the threads go on", async () => {
  const { error, before, whole, after } = await page.evaluate(async () => {
    const llm = await load({ threads: 2 });
    const long = { temperature: 0, max_tokens: 200, ignore_eos: true };
    const [{ outputs: [whole] }] = await llm.generate("time and", long);
    const stop = new AbortController();
    const before = [];
    const { error } = await settled((async () => {
      for await (const { token_ids } of llm.stream("time and", long, { signal: stop.signal })) {
        before.push(...token_ids);
        if (before.length >= 5) stop.abort();
      }
    })());
    const [{ outputs: [after] }] = await llm.generate("time and", long);
    await llm.unload();
    return { error, before, whole: whole.token_ids, after: after.token_ids };
  });
  expect(error).toMatchObject({ name: "AbortError", code: "aborted" });
  expect(before.length).toBeLessThan(200);
  expect(before).toEqual(whole.slice(0, before.length));
  expect(after).toEqual(whole);
});

test.each(["full", "fast"])("%s: 200 random requests say the same with and without speculation", async (precision) => {
  const { plain, drafted, stats } = await page.evaluate(async (precision) => {
    const random = randomFrom(7);
    const vocabulary = ["the", "light", "of", "world", "water", "people", "night", "river", "house", "time"];
    const phrase = () => Array.from({ length: 1 + random(6) }, () => vocabulary[random(10)]).join(" ");
    const text = () => Array.from({ length: 1 + random(4) }, () => phrase()).concat(random(2) ? [] : [phrase()].flatMap((p) => [p, p, p])).join(" ");
    const cases = Array.from({ length: 200 }, () => [text(), {
      max_tokens: 8 + random(32), ignore_eos: random(3) > 0,
      ...(random(2) ? { temperature: 0 } : { temperature: [0.3, 0.8, 1.5][random(3)], seed: random(1000), n: 1 + random(2) }),
      ...(random(4) === 0 && { top_p: 0.9 }), ...(random(4) === 0 && { top_k: 20 }), ...(random(4) === 0 && { min_p: 0.05 }),
      ...(random(4) === 0 && { repetition_penalty: 1.2 }), ...(random(4) === 0 && { presence_penalty: 0.5 }),
      ...(random(3) === 0 && { logprobs: 3 }), ...(random(6) === 0 && { stop: ["t"] }),
    }]);
    const llm = await load({ threads: 2, max_num_seqs: 8, precision });
    const run = async (some) => {
      const outputs = await llm.generate(some.map(([text]) => text), some.map(([, params]) => params));
      return outputs.flatMap((o) => o.outputs.map(({ text, token_ids, logprobs, finish_reason, stop_reason }) => ({ text, token_ids, logprobs, finish_reason, stop_reason })));
    };
    const plain = await run(cases);
    const drafted = [];
    for (let i = 0; i < 8; i++) {
      const max = 1 + random(4);
      const num_speculative_tokens = i === 7 ? "auto" : i + 1;
      await llm.setSpeculativeConfig({ method: "ngram", num_speculative_tokens, prompt_lookup_min: 1 + random(max), prompt_lookup_max: max });
      drafted.push(...(await run(cases.slice(i * 25, (i + 1) * 25))));
    }
    const stats = embergram.speculationStats(await llm.getMetrics());
    await llm.unload();
    return { plain, drafted, stats };
  }, precision);
  console.log(`drafted ${stats.num_draft_tokens}, accepted ${stats.num_accepted_tokens}`);
  expect(plain.length).toBeGreaterThan(200);
  expect(drafted).toEqual(plain);
  expect(stats.num_accepted_tokens).toBeGreaterThan(100);
  expect(stats.num_draft_tokens).toBeGreaterThan(stats.num_accepted_tokens);
});

test("a backend that there is none of, and threads out of range", async () => {
  const wrong = [{ backend: "gpu" }, { backend: null }, { threads: 0 }, { threads: 65 }, { threads: 1.5 }, { threads: "2" }, { threads: null }];
  const errors = await page.evaluate((wrong) => Promise.all(wrong.map(async (options) => (await settled(load(options))).error)), wrong);
  wrong.forEach((options, i) => {
    const [[name, value]] = Object.entries(options);
    expect(errors[i]).toMatchObject({ name: "EmbergramError", code: "invalid_config", message: expect.stringContaining(`${name} is ${JSON.stringify(value)}`) });
  });
});

test("activations of eight bits change the logits a little; WebGPU has none", async () => {
  const { outputs, refused } = await page.evaluate(async () => {
    const first = async (precision) => {
      const llm = await load({ model: "/model.gguf", threads: 2, precision });
      const [{ outputs: [{ token_ids, logprobs }] }] = await llm.generate("The capital of France is", { temperature: 0, max_tokens: 1, logprobs: 1 });
      await llm.unload();
      return { token: token_ids[0], logprob: Object.values(logprobs[0])[0].logprob };
    };
    return { outputs: [await first("full"), await first("fast")], refused: await settled(load({ backend: "webgpu", precision: "fast" })) };
  });
  const [full, fast] = outputs;
  expect(fast.token).toBe(full.token);
  expect(fast.logprob).not.toBe(full.logprob);
  expect(Math.abs(fast.logprob - full.logprob)).toBeLessThan(0.2);
  expect(refused.error).toMatchObject({ code: "invalid_config", message: expect.stringContaining('precision "fast"') });
});

test("modules that lie elsewhere: wasmUrl names the engine's, the kernels' are beside it", async () => {
  const { tokens, fetched } = await page.evaluate(async () => {
    const llm = await load({ wasmUrl: new URL("/elsewhere/engine_bg.wasm", location.href).href, worker: false });
    const [{ outputs: [{ token_ids }] }] = await llm.generate("the", greedy);
    await llm.unload();
    return { tokens: token_ids.length, fetched: performance.getEntriesByType("resource").map(({ name }) => new URL(name).pathname) };
  });
  expect(tokens).toBe(12);
  expect(fetched).toContain("/elsewhere/kernels_relaxed.wasm");
});

test("kernels that are not there, or are something else, are told by their name and what to do", async () => {
  const page = await visit();
  server.fault("/kernels_relaxed.wasm", () => ({ status: 404 }));
  const { error } = await page.evaluate(() => settled(load()));
  expect(error).toMatchObject({ name: "EmbergramError", code: "http", message: expect.stringContaining("kernels_relaxed.wasm") });
  expect(error.message).toContain("docs/packaging.md");
  // What servers send whose every other address is the page.
  server.fault("/kernels_relaxed.wasm");
  server.file("/kernels_relaxed.wasm", Buffer.from("<!doctype html><title>app</title>"), { "content-type": "text/html" });
  const other = (await page.evaluate(() => settled(load()))).error;
  expect(other).toMatchObject({ name: "EmbergramError", message: expect.stringContaining("kernels_relaxed.wasm") });
  // WebGPU has no need of them.
  expect(await page.evaluate(async () => (await load({ backend: "webgpu" })).unload())).toBeUndefined();
  await page.close();
});

/** A worker whose browser has no relaxed SIMD, or no SIMD. */
const without = (opcode) => `
  import "/worker.js";
  const { validate } = WebAssembly;
  WebAssembly.validate = (bytes) => !new Uint8Array(bytes).join().includes("${opcode}") && validate(bytes);`;

test("an engine without relaxed SIMD runs the other kernels and says the same; one without SIMD is told", async () => {
  const page = await visit({ "/simd.js": without("253,128,2"), "/none.js": without("253") });
  const { relaxed, simd, none, auto } = await page.evaluate(async () => {
    const run = async (options) => {
      const llm = await load(options);
      const [{ outputs: [{ token_ids }] }] = await llm.generate("the light of", greedy);
      await llm.unload();
      return { token_ids, adapter: llm.model.adapter };
    };
    return {
      relaxed: await run({}), simd: await run({ workerUrl: "/simd.js" }),
      none: await settled(run({ workerUrl: "/none.js", backend: "cpu" })), auto: await run({ workerUrl: "/none.js" }),
    };
  });
  expect(relaxed.adapter.name).toContain("relaxed SIMD");
  expect(simd.adapter.name).toMatch(/, WebAssembly SIMD$/);
  expect(simd.token_ids).toEqual(relaxed.token_ids);
  expect(server.requests.map(({ path }) => path)).toEqual(expect.arrayContaining(["/kernels.wasm", "/kernels_relaxed.wasm"]));
  expect(none.error).toMatchObject({ name: "EmbergramError", code: "no_simd", message: expect.stringContaining("SIMD") });
  // A WebGPU in software is better than nothing.
  expect(auto).toMatchObject({ token_ids: relaxed.token_ids, adapter: { backend: "webgpu" } });
  await page.close();
});
