// What ends when: loads and steps that stall, engines that trap, the GPU's memory. Faults are injected into a real browser.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { launch } from "../../scripts/browser.mjs";
import { dist } from "../../scripts/build.mjs";
import { serve } from "../support/server.mjs";
import { breakWebGpu, countBuffers, faultyWorker } from "./faults.mjs";
import { helpers } from "./harness.mjs";

const tiny = readFileSync(process.env.EMBERGRAM_TINY_MODEL);
const script = (text) => [Buffer.from(text), { "content-type": "text/javascript" }];
let context;
let server;
let page;
beforeAll(async () => {
  context = await launch();
  server = await serve({ root: dist });
});
beforeEach(async () => {
  server.reset();
  server.file("/", Buffer.from("<!doctype html><title>test</title>"), { "content-type": "text/html" });
  server.file("/tiny.gguf", tiny);
  server.file("/faulty.js", ...script(faultyWorker()));
  page = await context.newPage();
  await page.goto(server.origin);
  await page.evaluate(helpers);
  // As text: vitest would rewrite the import.
  await page.evaluate(`import("/index.js").then((embergram) => (globalThis.embergram = embergram))`);
  await page.evaluate(() => {
    globalThis.load = (options) => embergram.Llm.load({ model: "/tiny.gguf", backend: "webgpu", max_model_len: 64, ...options });
    /** What a promise gave, or how it was refused; `pending` where it does not settle. */
    globalThis.outcome = (promise, ms = 30_000) => {
      const waited = new Promise((done) => setTimeout(() => done({ pending: true }), ms));
      return Promise.race([settled(promise).then(({ value, error }) => ({ value: typeof value, error })), waited]);
    };
    const channel = new BroadcastChannel("faults");
    /** Tells faulty workers what to do from now on. */
    globalThis.tell = (faults) => channel.postMessage({ faults });
    /** Resolves when one of them met this fault. */
    globalThis.met = (name) => new Promise((done) => channel.addEventListener("message", ({ data }) => data.met === name && done()));
    globalThis.words = { temperature: 0, max_tokens: 6, ignore_eos: true };
  });
});
afterEach(() => page.close());
afterAll(async () => {
  await context?.close();
  await server?.close();
});

const aborted = { value: "undefined", error: { name: "AbortError", code: "aborted", message: expect.any(String) } };
const noWorkers = () => expect.poll(() => page.workers().length, { timeout: 20_000 }).toBe(0);

test("unload ends, and what is in flight with it, though a step never does", async () => {
  const got = await page.evaluate(async () => {
    const llm = await load({ workerUrl: "/faulty.js" });
    tell({ mapAsync: "stall" });
    const stalled = met("mapAsync");
    const call = outcome(llm.generate("the", words));
    await stalled;
    return { unloaded: await outcome(llm.unload()), call: await call };
  });
  expect(got).toEqual({ unloaded: { value: "undefined" }, call: aborted });
  await noWorkers();
});

test("the same with worker: false; the GPU's memory is given back", async () => {
  await page.evaluate(countBuffers);
  await page.evaluate(breakWebGpu);
  const got = await page.evaluate(async () => {
    const llm = await load({ worker: false });
    const stalled = met("mapAsync");
    fault({ mapAsync: "stall" });
    const call = outcome(llm.generate("the", words));
    await stalled;
    const before = liveBuffers();
    return { before, unloaded: await outcome(llm.unload()), call: await call, after: liveBuffers() };
  });
  expect(got).toEqual({ before: expect.any(Number), unloaded: { value: "undefined" }, call: aborted, after: 0 });
  expect(got.before).toBeGreaterThan(10);
});

test.each(["/worker.js", "/engine_bg.wasm", "/kernels_relaxed.wasm", "requestAdapter", "requestDevice"])("an abort ends a load at once while %s stalls", async (what) => {
  const file = what.startsWith("/");
  if (file) {
    server.file(what, readFileSync(join(dist, what)), { "content-type": what.endsWith(".js") ? "text/javascript" : "application/wasm" });
    server.fault(what, () => ({ stallAfter: 1000 }));
  } else {
    server.file("/faulty.js", ...script(faultyWorker({ [what]: "stall" })));
  }
  await page.evaluate(({ what, file }) => {
    globalThis.stop = new AbortController();
    globalThis.stalled = file ? undefined : met(what);
    globalThis.call = outcome(load({ signal: stop.signal, ...(file ? { backend: "cpu" } : { workerUrl: "/faulty.js" }) }));
  }, { what, file });
  if (file) await expect.poll(() => server.of(what).length, { timeout: 20_000 }).toBe(1);
  else await page.evaluate(() => stalled);
  expect(await page.evaluate(() => (stop.abort(), call))).toEqual(aborted);
  await noWorkers();
  server.fault(what);
  expect(await page.evaluate(async () => (await load({ backend: "cpu" })).unload())).toBeUndefined();
});

test("an abort ends a load with worker: false at once, and what comes late is not kept", async () => {
  await page.evaluate(countBuffers);
  await page.evaluate(breakWebGpu);
  const got = await page.evaluate(async () => {
    const stop = new AbortController();
    const stalled = met("requestDevice");
    fault({ requestDevice: "stall" });
    const call = outcome(load({ worker: false, signal: stop.signal }));
    await stalled;
    stop.abort();
    const first = await call;
    fault({});
    // In the middle of the download.
    const next = new AbortController();
    const onProgress = ({ phase }) => phase === "build" && next.abort();
    const second = await outcome(load({ worker: false, signal: next.signal, onProgress }));
    await (await load({ worker: false })).unload();
    return { first, second, live: liveBuffers() };
  });
  expect(got).toEqual({ first: aborted, second: aborted, live: 0 });
});

test("the module's download has the model's time-out", async () => {
  for (const [name, most] of [["engine_bg.wasm", 100_000], ["kernels_relaxed.wasm", 1000]]) {
    server.file(`/${name}`, readFileSync(join(dist, name)), { "content-type": "application/wasm" });
    for (const stallAfter of [0, most]) {
      server.fault(`/${name}`, () => ({ stallAfter }));
      const { error } = await page.evaluate(() => outcome(load({ backend: "cpu", timeout: 1000 })));
      expect(error).toMatchObject({ name: "EmbergramError", code: "network", message: expect.stringContaining(name) });
    }
    server.fault(`/${name}`);
  }
});

test.each([true, false])("a panic is told in its own words, to the call and to all that come; worker: %s", async (worker) => {
  await page.evaluate(breakWebGpu);
  server.file("/faulty-load.js", ...script(faultyWorker({ createBuffer: "throw" })));
  const got = await page.evaluate(async (worker) => {
    const options = worker ? { workerUrl: "/faulty.js" } : { worker };
    const inject = worker ? tell : fault;
    const llm = await load(options);
    inject({ writeBuffer: "throw" });
    const open = [llm.generate("the", words), llm.generate("the", words)].map((call) => outcome(call));
    const step = await Promise.all(open);
    inject({});
    const later = await Promise.all([llm.generate("the", words), llm.tokenize("the"), llm.getMetrics()].map((call) => outcome(call)));
    const { code, message } = await llm.lost;
    await llm.unload();
    // While loading.
    inject({ createBuffer: "throw" });
    return { step, later, lost: { code, message }, load: await outcome(load(worker ? { workerUrl: "/faulty-load.js" } : options)) };
  }, worker);
  const panicked = (where) => ({
    value: "undefined", error: { name: "EmbergramError", code: "internal", message: expect.stringMatching(new RegExp(`panicked.*injected into ${where}`, "s")) },
  });
  expect([...got.step, ...got.later]).toEqual(Array(5).fill(panicked("writeBuffer")));
  expect(got.lost).toEqual({ code: "internal", message: panicked("writeBuffer").error.message });
  expect(got.load).toEqual(panicked("createBuffer"));
});

test("a caller's mistake is no trap: the engine goes on", async () => {
  const got = await page.evaluate(async () => {
    const llm = await load({ backend: "cpu" });
    const mistakes = await Promise.all([llm.detokenize(null), llm.tokenize(undefined), llm.tokenize({})].map((call) => outcome(call)));
    const [{ outputs: [{ token_ids }] }] = await llm.generate("the", words);
    const lost = await Promise.race([llm.lost, new Promise((done) => setTimeout(done, 50, "open"))]);
    await llm.unload();
    return { refused: mistakes.map(({ error }) => error?.name), tokens: token_ids.length, lost };
  });
  expect(got).toEqual({ refused: Array(3).fill("EmbergramError"), tokens: 6, lost: "open" });
});

test("memory that runs out is said to be that, and the engine is not used again", async () => {
  await page.evaluate(() => {
    const { instantiateStreaming } = WebAssembly;
    WebAssembly.instantiateStreaming = async (...args) => {
      const made = await instantiateStreaming.apply(WebAssembly, args);
      globalThis.memory = made.instance.exports.memory;
      return made;
    };
  });
  const got = await page.evaluate(async () => {
    const llm = await load({ backend: "cpu", worker: false });
    // Nothing is left to grow by.
    for (let pages = 65536; pages >= 1; ) {
      try {
        memory.grow(pages);
      } catch {
        pages /= 2;
      }
    }
    const call = await outcome(llm.detokenize(new Array(4_000_000).fill(1)));
    return { call, later: await outcome(llm.tokenize("the")) };
  });
  const failed = { value: "undefined", error: { name: "EmbergramError", code: "internal", message: expect.stringContaining("out of memory") } };
  expect(got).toEqual({ call: failed, later: failed });
});

test("with worker: false each unload, and each load begun again, gives all of the GPU's memory back", async () => {
  await page.evaluate(countBuffers);
  const rounds = await page.evaluate(async () => {
    const rounds = [];
    for (let i = 0; i < 5; i++) {
      const llm = await load({ worker: false });
      await llm.generate("the", words);
      const loaded = liveBuffers();
      await llm.unload();
      rounds.push([loaded, liveBuffers()]);
    }
    return rounds;
  });
  expect(rounds).toEqual(Array(5).fill([rounds[0][0], 0]));
  expect(rounds[0][0]).toBeGreaterThan(10);
  // Cut in the middle; what comes then is of another version.
  const other = Buffer.from(tiny);
  other[other.length - 1] ^= 1;
  server.fault("/tiny.gguf", (_, count) => {
    if (count === 2) server.file("/tiny.gguf", other, { etag: '"v2"' });
    return count === 1 ? { cutAfter: tiny.length - 1000 } : undefined;
  });
  const again = await page.evaluate(async () => {
    await embergram.modelCache.clear();
    const llm = await load({ worker: false, retryDelay: 10 });
    const loaded = liveBuffers();
    await llm.unload();
    return [loaded, liveBuffers()];
  });
  expect(server.of("/tiny.gguf").at(-1).headers.range).toBe("bytes=0-");
  // Without the buffers of a first step.
  expect(again[0]).toBeLessThanOrEqual(rounds[0][0]);
  expect(again[1]).toBe(0);
});
