// `Llm.connect` to a server that plays what vLLM's answered, and to servers that are none.
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { counterValue, gaugeValue, histogram, Llm, speculationStats, type ChatMessage, type Delta } from "../../www/embergram/index.js";
// @ts-expect-error: plain JavaScript
import * as support from "../support/recorded-server.mjs";

const { exchange, recordedServer } = support as {
  exchange(name: string): { request: { body: unknown }; response: { body: string } };
  recordedServer(options?: { key?: string; without?: string[]; allow?: string }): Promise<{
    origin: string; seen: { path: string; body: Record<string, unknown> }[]; close(): void;
  }>;
};
const chat = exchange("chat");
const { messages } = chat.request.body as { messages: ChatMessage[] };
const answered = (name: string) => JSON.parse(exchange(name).response.body);

describe("a vLLM server", () => {
  let server: Awaited<ReturnType<typeof recordedServer>>;
  let llm: Llm;
  beforeAll(async () => {
    server = await recordedServer({ key: "right" });
    llm = await Llm.connect(server.origin, { apiKey: "right" });
  });
  afterAll(async () => {
    await llm.unload();
    server.close();
  });

  test("tells its model", () => {
    expect(llm.model).toMatchObject({ name: "qwen2.5-coder-0.5b-instruct", max_model_len: 2048, adapter: { backend: "server", vendor: "vllm", name: server.origin } });
  });

  test("chats", async () => {
    const [output] = await llm.chat(messages, { temperature: 0, max_tokens: 48 });
    const { choices: [choice], usage } = answered("chat");
    expect(output!.outputs[0]).toMatchObject({ text: choice.message.content, finish_reason: "stop", stop_reason: null, logprobs: null });
    expect(output!.metrics).toMatchObject({ num_prompt_tokens: usage.prompt_tokens, num_generation_tokens: usage.completion_tokens });
    const [ids] = await llm.chat(messages, { temperature: 0, max_tokens: 6 });
    expect(ids).toMatchObject({ prompt_token_ids: answered("chat token ids").prompt_token_ids, outputs: [{ token_ids: answered("chat token ids").choices[0].token_ids }] });
    expect(server.seen.at(-1)!.body).toMatchObject({ return_token_ids: true, model: llm.model.name });
  });

  test("streams", async () => {
    const deltas: Delta[] = [];
    const stream = llm.chatStream(messages, { temperature: 0, max_tokens: 48 });
    let step = await stream.next();
    for (; !step.done; step = await stream.next()) deltas.push(step.value);
    const text = answered("chat").choices[0].message.content;
    expect(deltas.map((delta) => delta.text).join("")).toBe(text);
    expect(deltas.length).toBeGreaterThan(10);
    expect(deltas.at(-1)!.finish_reason).toBe("stop");
    expect(step.value).toMatchObject({ outputs: [{ text, finish_reason: "stop" }], metrics: { num_generation_tokens: 18 } });
    const words = [];
    for await (const { text } of llm.stream("The sky is", { temperature: 0, max_tokens: 10 })) words.push(text);
    expect(words).toEqual([" covered", " with", " stars", ",", " and", " each", " star", " has", " a", " unique"]);
  });

  test("completes several prompts, a request each", async () => {
    const before = server.seen.length;
    const prompt = "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n";
    const outputs = await llm.generate([prompt, prompt], { temperature: 0, max_tokens: 48 });
    expect(outputs.map(({ prompt: given, outputs: [choice] }) => [given, choice!.text, choice!.finish_reason])).toEqual(
      Array(2).fill([prompt, answered("completion").choices[0].text, "length"]),
    );
    expect(server.seen.length).toBe(before + 2);
  });

  test("tokenizes", async () => {
    expect(await llm.tokenize("Hello, world!")).toEqual([9707, 11, 1879, 0]);
    expect(await llm.detokenize([9707, 11, 1879, 0])).toBe("Hello, world!");
  });

  test("has OpenAI's calls, and a fetch", async () => {
    const whole = await llm.chat.completions.create({ messages, temperature: 0, max_tokens: 48 });
    expect(whole).toEqual(answered("chat"));
    let text = "";
    const stream = await llm.chat.completions.create({ messages, temperature: 0, max_tokens: 48, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    expect(text).toBe(whole.choices[0]!.message.content);
    expect(await (await llm.fetch("http://localhost/v1/models", { headers: { authorization: "Bearer client" } })).json()).toEqual(answered("models"));
  });

  test("getMetrics has the shape of an engine's", async () => {
    const metrics = await llm.getMetrics();
    expect(counterValue(metrics, "vllm:spec_decode_num_draft_tokens")).toBe(273);
    expect(gaugeValue(metrics, "vllm:num_requests_running")).toBe(0);
    expect(speculationStats(metrics)).toMatchObject({ num_drafts: 62, num_accepted_tokens: 52, num_accepted_tokens_per_pos: [29, 10, 7, 5, 1], acceptance_rate: 52 / 273 });
    const lengths = histogram(metrics, "vllm:request_prompt_tokens")!;
    expect(lengths.count).toBeGreaterThan(5);
    expect(lengths.buckets["+Inf"]).toBe(lengths.count);
    expect(metrics.every(({ name }) => name.includes(":") && !/_(?:created|bucket|sum|count)$/.test(name))).toBe(true);
    expect(new Set(metrics.map(({ type }) => type))).toEqual(new Set(["counter", "gauge", "vector", "histogram"]));
  });

  test("an abort ends a call", async () => {
    const stop = new AbortController();
    const call = llm.chat(messages, { temperature: 0, max_tokens: 48 }, { signal: stop.signal });
    stop.abort();
    await expect(call).rejects.toMatchObject({ code: "aborted" });
  });

  test("what is not a page's to change is refused", async () => {
    await expect(llm.resetMetrics()).rejects.toMatchObject({ code: "invalid_config", message: expect.stringContaining("take the difference") });
    await expect(llm.setSpeculativeConfig(null)).rejects.toMatchObject({ code: "invalid_config" });
  });
});

describe("what is wrong is told apart", () => {
  const open: { close(): unknown }[] = [];
  afterEach(() => open.splice(0).forEach((server) => server.close()));
  const recorded = async (...options: Parameters<typeof recordedServer>) => {
    const server = await recordedServer(...options);
    open.push(server);
    return server.origin;
  };
  const other = async (status: number, body: string) => {
    const server: Server = createServer((_, response) => response.writeHead(status).end(body)).listen(0, "127.0.0.1");
    open.push(server);
    await once(server, "listening");
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  };

  test("an address that is none, or where nothing is", async () => {
    await expect(Llm.connect("here")).rejects.toMatchObject({ code: "invalid_config", message: expect.stringContaining("http://localhost:8000") });
    const origin = await other(200, "");
    open.splice(0).forEach((server) => server.close());
    await expect(Llm.connect(origin)).rejects.toMatchObject({ code: "network", message: expect.stringContaining("is the address right, does the server run?") });
  });

  test("a server of something else", async () => {
    await expect(Llm.connect(await other(200, "<!doctype html>"))).rejects.toMatchObject({ code: "http", message: expect.stringContaining("no server of OpenAI's API") });
    await expect(Llm.connect(await other(200, "{}"))).rejects.toMatchObject({ code: "http" });
    await expect(Llm.connect(await other(404, "nothing"))).rejects.toMatchObject({ code: "http", message: expect.stringContaining("404") });
    await expect(Llm.connect(await other(502, "bad gateway"))).rejects.toMatchObject({ code: "http" });
  });

  test("a key that is wrong, or has expired since", async () => {
    const origin = await recorded({ key: "right" });
    await expect(Llm.connect(origin)).rejects.toMatchObject({ code: "unauthorized" });
    await expect(Llm.connect(origin, { apiKey: "wrong" })).rejects.toMatchObject({ code: "unauthorized", message: expect.stringContaining("give a valid apiKey") });
    let key = "right";
    const llm = await Llm.connect(origin, { fetch: (url, init) => fetch(url, { ...init, headers: { ...Object.fromEntries(new Headers(init!.headers)), authorization: `Bearer ${key}` } }) });
    key = "expired";
    await expect(llm.chat(messages)).rejects.toMatchObject({ code: "unauthorized" });
    await expect(llm.chatStream(messages).next()).rejects.toMatchObject({ code: "unauthorized" });
  });

  test("a model that is not there", async () => {
    const origin = await recorded();
    await expect(Llm.connect(origin, { model: "none" })).rejects.toMatchObject({ code: "unknown_model", message: expect.stringContaining("qwen2.5-coder-0.5b-instruct") });
    const llm = await Llm.connect(origin);
    await expect(llm.chat.completions.create({ model: "none", messages, temperature: 0, max_tokens: 48 })).rejects.toMatchObject({ code: "unknown_model" });
  });

  test("no metrics", async () => {
    const llm = await Llm.connect(await recorded({ without: ["/metrics"] }));
    await expect(llm.getMetrics()).rejects.toMatchObject({ code: "no_metrics" });
  });

  test("a refusal keeps the server's words", async () => {
    const llm = await Llm.connect(await recorded());
    await expect(llm.generate("The sky is", { temperature: 0, max_tokens: 4000 })).rejects.toMatchObject({
      code: "invalid_params", message: expect.stringContaining("max_tokens=4000 cannot be greater than max_model_len=2048"),
    });
  });
});
