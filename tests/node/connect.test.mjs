// `Llm.connect` to `embergram serve`: what it gives is what the model gives here.
import { afterAll, beforeAll, expect, test } from "vitest";
import { CLI, Llm, MODEL, refusal, start } from "./harness.mjs";

const speculative_config = { method: "ngram", num_speculative_tokens: 3, prompt_lookup_min: 2, prompt_lookup_max: 4 };
const prompts = ["One, two, three. One, two, three. One, two,", [1, 2, 3, 4, 5]];
const params = { max_tokens: 12, temperature: 0, logprobs: 2 };
const messages = [{ role: "user", content: "Say hello." }];

let child;
let here;
let there;
let origin;
beforeAll(async () => {
  child = start([CLI, "serve", MODEL, "--port", "0", "--max-model-len", "512", "--api-key", "the key", "--speculate", "3"]);
  const line = await new Promise((done, fail) => {
    child.stdout.setEncoding("utf8").once("data", done);
    child.stderr.setEncoding("utf8").once("data", (text) => fail(new Error(text)));
  });
  origin = /http:\/\/127\.0\.0\.1:\d+/.exec(line)[0];
  here = await Llm.load({ model: MODEL, max_model_len: 512, speculative_config });
  there = await Llm.connect(`${origin}/v1/`, { apiKey: "the key" });
}, 120_000);
afterAll(async () => {
  child?.kill();
  await here?.unload();
  await there?.unload();
});

/** An output without times. */
const plain = ({ prompt, prompt_token_ids, outputs, metrics: { num_prompt_tokens, num_generation_tokens, speculative_decoding } }) => ({
  prompt, prompt_token_ids, num_prompt_tokens, num_generation_tokens, speculative_decoding,
  outputs: outputs.map(({ metrics, logprobs, ...output }) => ({ ...output, logprobs: logprobs.map((step) => step.map(({ token_id, logprob, rank }) => ({ token_id, rank, logprob: logprob.toFixed(4) }))) })),
});

test("generate, chat and their streams", async () => {
  expect((await there.generate(prompts, params)).map(plain)).toEqual((await here.generate(prompts, params)).map(plain));
  // A chat's prompt is the server's to make.
  expect((await there.chat(messages, params)).map(plain)).toEqual((await here.chat(messages, params)).map(plain));
  const streamed = async (llm) => {
    const texts = [];
    const stream = llm.chatStream(messages, { max_tokens: 12, temperature: 0 });
    let step = await stream.next();
    for (; !step.done; step = await stream.next()) texts.push([step.value.text, step.value.token_ids, step.value.finish_reason]);
    return texts.filter(([text, ids]) => text !== "" || ids.length > 0);
  };
  expect(await streamed(there)).toEqual(await streamed(here));
});

test("embeddings", async () => {
  const values = (outputs) => outputs.map(({ prompt, outputs: { embedding } }) => [prompt, ...embedding]);
  expect(values(await there.embed(prompts))).toEqual(values(await here.embed(prompts)));
  const how = { pooling: "mean", normalize: false, dimensions: 4, truncate_prompt_tokens: 3 };
  const some = await there.embed("One, two, three", how);
  expect(values(some)).toEqual(values(await here.embed("One, two, three", how)));
  expect(some[0].outputs.embedding).toHaveLength(4);
  expect(await refusal(there.embed([[]]))).toMatchObject({ code: "invalid_params" });
});

test("n sequences, a seed, parameters for each prompt", async () => {
  const some = { n: 2, seed: 5, temperature: 0.8, max_tokens: 6 };
  const texts = (outputs) => outputs.map(({ outputs }) => outputs.map(({ text, token_ids, finish_reason }) => ({ text, token_ids, finish_reason })));
  expect(texts(await there.generate(prompts, [some, { max_tokens: 3, temperature: 0 }]))).toEqual(texts(await here.generate(prompts, [some, { max_tokens: 3, temperature: 0 }])));
});

test("tokens, counted and back", async () => {
  expect(await there.tokenize("Hello, world!")).toEqual(await here.tokenize("Hello, world!"));
  expect(await there.countTokens(messages)).toBe(await here.countTokens(messages));
  expect(await there.applyChatTemplate(messages)).toEqual(await here.applyChatTemplate(messages));
});

test("metrics have the engine's names, types and labels", async () => {
  const kinds = (metrics) => metrics.map(({ name, type, labels, buckets }) => ({ name, type, labels, bounds: buckets && Object.keys(buckets).sort() }));
  const [ours, theirs] = [await here.getMetrics(), await there.getMetrics()];
  const byName = (a, b) => (JSON.stringify([a.name, a.labels]) < JSON.stringify([b.name, b.labels]) ? -1 : 1);
  expect(kinds(theirs).sort(byName)).toEqual(kinds(ours).sort(byName));
});

test("an abort ends it there too, and keeps what had come", async () => {
  const stop = new AbortController();
  const reason = new Error("enough");
  const parts = [];
  const call = (async () => {
    for await (const { text } of there.stream("Once upon a time", { max_tokens: 400, ignore_eos: true, temperature: 0 }, { signal: stop.signal })) {
      parts.push(text);
      stop.abort(reason);
    }
  })();
  const error = await call.catch((thrown) => thrown);
  expect(error).toMatchObject({ name: "AbortError", code: "aborted", cause: reason });
  expect(error.partial[0].outputs[0].text.startsWith(parts[0])).toBe(true);
  for (let running = 1; running > 0; ) running = (await there.getMetrics()).find(({ name }) => name === "vllm:num_requests_running").value;
});

test("a load that nothing here can run falls back, others do not", async () => {
  const llm = await Llm.load({ model: MODEL, backend: "webgpu", fallback: { url: origin, apiKey: "the key" } });
  expect(llm.model).toMatchObject({ name: there.model.name, adapter: { backend: "server", name: origin } });
  expect(await refusal(Llm.load({ model: MODEL, backend: "webgpu" }))).toMatchObject({ code: "no_webgpu" });
  expect(await refusal(Llm.load({ model: "none.gguf", fallback: origin }))).toMatchObject({ code: "invalid_config" });
  expect(await refusal(Llm.load({ model: MODEL, backend: "webgpu", fallback: origin }))).toMatchObject({ code: "unauthorized" });
});
