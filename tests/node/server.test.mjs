// `llm.fetch` with the model that vLLM's server had, asked what that was asked; and the same behind HTTP with a key.
import { once } from "node:events";
import { createServer } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { listener } from "../../www/embergram/node/cli/http.ts";
import { golden, Llm } from "./harness.mjs";
import { differences, events, samples, ofRequired } from "./recorded.mjs";

const { exchanges } = golden("vllm_server.json");
const KEY = "the key";

let llm;
let server;
let origin;
beforeAll(async () => {
  const speculative_config = { method: "ngram", num_speculative_tokens: 5, prompt_lookup_min: 2, prompt_lookup_max: 4 };
  llm = await Llm.load({
    model: process.env.EMBERGRAM_QWEN2, max_model_len: 2048, served_model_name: "qwen2.5-coder-0.5b-instruct", speculative_config,
  });
  server = createServer(listener(llm.fetch, { apiKey: KEY })).listen(0, "127.0.0.1");
  await once(server, "listening");
  origin = `http://127.0.0.1:${server.address().port}`;
}, 300_000);
afterAll(async () => {
  server?.close();
  await llm?.unload();
});

const asked = ({ method, path, body, authorized }, own = "http://localhost") => [own + path, {
  method,
  ...(body !== null && { body: typeof body === "string" ? body : JSON.stringify(body) }),
  headers: { ...(body !== null && { "content-type": "application/json" }), ...(authorized && { authorization: `Bearer ${KEY}` }) },
}];

/** Everything that differs from what was recorded. */
async function compare(answer, { status, headers, body }) {
  const got = { status: answer.status, type: answer.headers.get("content-type") };
  expect(got).toEqual({ status, type: headers["content-type"] ?? null });
  const text = await answer.text();
  if (headers["content-type"]?.startsWith("text/event-stream")) return differences(events(text), events(body));
  if (headers["content-type"] === "application/json") return differences(JSON.parse(text), JSON.parse(body));
  return text === body ? [] : [text];
}

const replayed = exchanges.filter(({ request, name }) => request.authorized && name !== "metrics");
describe("llm.fetch answers as vLLM's server did", () => {
  for (const { name, request, response } of replayed) {
    const ours = name === "tool required" || name === "tool by name" ? ofRequired : (all) => all;
    test(name, async () => expect(ours(await compare(await llm.fetch(...asked(request)), response))).toEqual([]));
  }

  test("metrics: vLLM's names and labels", async () => {
    const { response } = exchanges.find(({ name }) => name === "metrics");
    const answer = await llm.fetch("/metrics");
    expect(answer.headers.get("content-type")).toBe(response.headers["content-type"]);
    const [ours, theirs] = [samples(await answer.text()), samples(response.body)];
    expect(ours.size).toBeGreaterThan(60);
    // docs/metrics.md: vLLM has the first where a variable is set, and more labels of the second.
    const others = [...ours].filter(([name, labels]) => theirs.get(name)?.join() !== labels.join());
    expect(others.map(([name]) => name)).toEqual(["vllm:corrupted_requests_total", "vllm:cache_config_info"]);
  });
});

describe("behind HTTP", () => {
  const some = ["health", "models", "models without key", "models with a wrong key", "tokenize text", "chat token ids", "completion streamed", "not json", "unknown route", "wrong method"];
  test.each(exchanges.filter(({ name }) => some.includes(name)))("$name", async ({ request, response }) => {
    const [url, init] = asked(request, origin);
    if (/wrong key/.test(request.path)) init.headers.authorization = "Bearer wrong";
    expect(await compare(await fetch(url, init), response)).toEqual([]);
  });

  test("pages of this machine may ask, others not", async () => {
    const as = (origin_) => fetch(`${origin}/health`, { headers: { origin: origin_ } });
    expect((await as("http://localhost:5173")).headers.get("access-control-allow-origin")).toBe("http://localhost:5173");
    expect((await as("https://elsewhere.example")).status).toBe(403);
  });
});
