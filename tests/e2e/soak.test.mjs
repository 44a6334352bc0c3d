// Hundreds of random requests, some refused, some aborted at any moment: all settle, all are counted, nothing grows.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ISOLATED } from "../../scripts/backend.mjs";
import { launch } from "../../scripts/browser.mjs";
import { dist } from "../../scripts/build.mjs";
import { serve } from "../support/server.mjs";
import { countBuffers } from "./faults.mjs";
import { helpers } from "./harness.mjs";

/** Requests of each half; a WebGPU that computes in software takes longer. */
const HALF = { cpu: 150, webgpu: 60 };
/** A worker that counts its buffers. */
const worker = `
  import "/worker.js";
  (${countBuffers})();
  const channel = new BroadcastChannel("buffers");
  channel.onmessage = ({ data }) => data === "ask" && channel.postMessage({ live: liveBuffers() });`;

let context;
let server;
let page;
beforeAll(async () => {
  context = await launch();
  server = await serve({ root: dist, headers: ISOLATED });
  server.file("/", Buffer.from("<!doctype html><title>test</title>"), { "content-type": "text/html" });
  server.file("/tiny.gguf", readFileSync(process.env.EMBERGRAM_TINY_MODEL));
  server.file("/counting.js", Buffer.from(worker), { "content-type": "text/javascript" });
  page = await context.newPage();
  await page.goto(server.origin);
  await page.evaluate(helpers);
  await page.evaluate(`import("/index.js").then((embergram) => (globalThis.embergram = embergram))`);
});
afterAll(async () => {
  await context?.close();
  await server?.close();
});

/** Runs in the page: `count` requests of this seed, up to twelve at once. Gives what became of them, and how things stand then. */
async function soak({ seed, count }) {
  const { llm } = globalThis;
  // Each request has its own numbers, whatever the order in which they start.
  let random;
  const vocabulary = ["the", "light", "of", "world", "water", "people", "night", "river", "house", "time"];
  const text = () => Array.from({ length: 1 + random(30) }, () => vocabulary[random(10)]).join(" ");
  const params = () => ({
    max_tokens: 1 + random(12), ignore_eos: random(3) > 0, n: 1,
    ...(random(2) ? { temperature: 0 } : { temperature: 0.9, seed: random(1000), n: 1 + random(3) }), ...(random(5) === 0 ? { logprobs: 2 } : {}),
    ...(random(8) === 0 ? { stop: ["t"] } : {}),
  });
  const drain = async (stream, most) => {
    let last = [];
    for (let i = 0; i < most; i++) {
      const next = await stream.next();
      if (next.done) return [next.value];
      last = next.value;
    }
    await stream.return();
    return last && { left: true };
  };
  const refused = [
    () => llm.generate("the", { temprature: 1 }), () => llm.generate("the", { n: 0 }), () => llm.generate([[]]), () => llm.generate([99999999]),
    () => llm.generate("the ".repeat(400)), () => llm.generate(["the", "a"], [{}]), () => llm.chat([{ role: "user" }]),
    () => llm.setSpeculativeConfig({ method: "ngram", num_speculative_tokens: 0 }),
  ];
  /** What was asked for, how many sequences that is, and the call. */
  const request = (signal) => {
    const own = params();
    switch (random(8)) {
      case 0: return { sequences: 0, call: refused[random(refused.length)]() };
      case 1: return { sequences: 2 * own.n, call: llm.generate([text(), text()], own, { signal }) };
      case 2: return { sequences: own.n, call: llm.chat([{ role: "user", content: text() }], own, { signal }) };
      case 3: return { sequences: own.n, call: drain(llm.stream(text(), own, { signal }), Infinity) };
      case 4: return { sequences: own.n, call: drain(llm.stream(text(), own, { signal }), 1 + random(4)) };
      case 5: return { sequences: 1, call: llm.completions.create({ prompt: text(), max_tokens: own.max_tokens }, { signal }).then(() => [1]) };
      case 6: return { sequences: own.n, call: llm.tokenize(text()).then((ids) => llm.generate(ids, own, { signal })) };
      default: return { sequences: own.n, call: llm.generate(text(), own, { signal }) };
    }
  };
  const ends = { done: 0, left: 0, aborted: 0, refused: 0 };
  const sequences = { done: 0, open: 0 };
  const other = [];
  const one = async (index) => {
    random = randomFrom(seed * 1000 + index);
    const stop = new AbortController();
    const made = request(stop.signal);
    if (random(4) === 0) setTimeout(() => stop.abort(), random(150));
    const { value, error } = await settled(made.call);
    if (value?.left) sequences.open += made.sequences;
    else if (error?.code === "aborted") sequences.open += made.sequences;
    else if (!error) sequences.done += made.sequences;
    if (error && error.code !== "aborted" && made.sequences > 0) other.push(error);
    ends[error ? (error.code === "aborted" ? "aborted" : "refused") : value?.left ? "left" : "done"] += 1;
  };
  let started = 0;
  await Promise.all(Array.from({ length: 12 }, async () => {
    while (started < count) await one(started++);
  }));
  // Who left a stream does not wait for its end.
  let metrics;
  do metrics = await llm.getMetrics();
  while (embergram.gaugeValue(metrics, "vllm:num_requests_running") + embergram.gaugeValue(metrics, "vllm:num_requests_waiting") > 0);
  const channel = new BroadcastChannel("buffers");
  const buffers = new Promise((done) => (channel.onmessage = ({ data }) => done(data.live)));
  channel.postMessage("ask");
  const gauges = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"].map((name) => embergram.gaugeValue(metrics, name));
  const finished = Object.fromEntries(["stop", "length", "abort", "error"].map((reason) =>
    [reason, embergram.counterValue(metrics, "vllm:request_success", { finished_reason: reason }) ?? 0]));
  return {
    ends, sequences, other, gauges, finished, n: embergram.histogram(metrics, "vllm:request_params_n").sum,
    heap: embergram.gaugeValue(metrics, "embergram:wasm_heap_bytes"), memory: embergram.gaugeValue(metrics, "embergram:gpu_memory_bytes"), buffers: await buffers,
  };
}

test.each(["cpu", "webgpu"])("random requests on %s: every promise settles, every request is counted, heap and buffers are flat in the second half", async (backend) => {
  await page.evaluate(async (backend) => {
    const speculative_config = { method: "ngram", num_speculative_tokens: 3, prompt_lookup_min: 1, prompt_lookup_max: 3 };
    globalThis.llm = await embergram.Llm.load({ model: "/tiny.gguf", backend, workerUrl: "/counting.js", max_model_len: 256, max_num_seqs: 6, speculative_config });
  }, backend);
  const count = HALF[backend];
  const halves = [];
  for (const seed of [1, 2]) halves.push(await page.evaluate(soak, { seed, count }));
  console.log(backend, JSON.stringify(halves.map(({ ends, finished, heap, buffers }) => ({ ends, finished, heap, buffers }))));
  for (const [i, half] of halves.entries()) {
    const { ends, sequences, other, gauges, finished, n } = half;
    expect(other).toEqual([]);
    expect(Object.values(ends).reduce((a, b) => a + b)).toBe(count);
    for (const many of Object.values(ends)) expect(many).toBeGreaterThan(1);
    expect(gauges).toEqual([0, 0, 0]);
    // What came in and what went out, by both ways of counting.
    const before = i ? halves[0].finished : {};
    const total = ({ stop = 0, length = 0, abort = 0, error = 0 }) => stop + length + abort + error;
    expect(n).toBe(total(finished));
    expect(finished.error).toBe(0);
    const ended = total(finished) - total(before);
    expect(ended).toBeGreaterThanOrEqual(sequences.done);
    expect(ended).toBeLessThanOrEqual(sequences.done + sequences.open);
    expect(finished.abort - (before.abort ?? 0)).toBeLessThanOrEqual(sequences.open);
  }
  expect(halves[1].heap).toBe(halves[0].heap);
  // What results are read through grows to the most that a step has wanted, which may come late; nothing else does.
  expect(halves[1].memory - halves[0].memory).toBeLessThan(halves[0].memory / 10);
  expect(halves[1].buffers).toBe(halves[0].buffers);
  if (backend === "webgpu") expect(halves[1].buffers).toBeGreaterThan(10);
  expect(await page.evaluate(async () => (await llm.generate("the", { max_tokens: 4, ignore_eos: true }))[0].outputs[0].token_ids.length)).toBe(4);
  await page.evaluate(() => llm.unload());
});
