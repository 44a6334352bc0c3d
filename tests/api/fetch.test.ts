// What `llm.fetch` answers before a model runs: routes, and refusals in the words of pydantic and of vLLM. The recorded server
// is replayed in tests/node.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { serverFetch, type ServerBackend } from "../../www/embergram/openai/fetch.js";
import { jsonError } from "../../www/embergram/openai/python.js";
import type { TokenLogprob } from "../../www/embergram/types.js";
// @ts-expect-error: plain JavaScript
import { differences as compared } from "../node/recorded.mjs";
import { fake } from "./fake.js";

const differences = compared as (ours: unknown, theirs: unknown) => string[];
const { exchanges } = JSON.parse(readFileSync(fileURLToPath(new URL("../golden/vllm_server.json", import.meta.url)), "utf8")) as {
  exchanges: { name: string; request: { body: object }; response: { body: string } }[];
};

const CHAT = "/v1/chat/completions";
const messages = [{ role: "user", content: "Hi" }];
const json = { "content-type": "application/json" };

async function ask(path: string, body?: unknown, init: RequestInit = {}) {
  const request = body === undefined ? init : { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), headers: json, ...init };
  const response = await fake().fetch(path, request);
  const text = await response.text();
  return { status: response.status, body: text.startsWith("{") ? JSON.parse(text) : text, type: response.headers.get("content-type") };
}

/** The lines of a refusal, without the first, which counts them. */
async function problems(body: unknown, path = CHAT): Promise<string[]> {
  const { status, body: { error } } = await ask(path, body);
  expect({ status, type: error.type, code: error.code }).toEqual({ status: 400, type: "Bad Request", code: 400 });
  const [count, ...lines] = error.message.split("\n");
  expect(count).toBe(`${lines.length} validation ${lines.length === 1 ? "error" : "errors"}:`);
  return lines.map((line: string) => line.trim());
}

describe("routes", () => {
  test("what a server has", async () => {
    expect(await ask("/health")).toMatchObject({ status: 200, body: "" });
    expect(await ask("http://anywhere.example/version")).toMatchObject({ status: 200, body: { version: "0.1.0" } });
    expect(await ask("/metrics")).toEqual({ status: 200, body: "vllm:x 1\n", type: "text/plain; version=1.0.0; charset=utf-8" });
    expect((await ask("/v1/models")).body.data).toMatchObject([{ id: "the-model", object: "model", max_model_len: 100 }]);
    expect(await ask("/tokenize", { prompt: "x" })).toMatchObject({ body: { count: 3, max_model_len: 100, tokens: [1, 7, 8], token_strs: null } });
    expect((await ask("/tokenize", { prompt: "x", add_special_tokens: false })).body.tokens).toEqual([7, 8]);
    expect((await ask("/tokenize", { messages })).body.tokens).toEqual([7, 8, 9, 10]);
    expect((await ask("/detokenize", { tokens: [0, 1] })).body).toEqual({ prompt: "Hello" });
  });

  test("what it has not", async () => {
    expect(await ask("/v1/nothing")).toMatchObject({ status: 404, body: { detail: "Not Found" } });
    expect(await ask(CHAT)).toMatchObject({ status: 405, body: { detail: "Method Not Allowed" } });
    expect(await ask("/constructor")).toMatchObject({ status: 404 });
  });

  test("embeddings, as numbers and as OpenAI's client asks for them", async () => {
    const { status, body } = await ask("/v1/embeddings", { model: "the-model", input: ["x", "y"], dimensions: 3, user: "me" });
    expect(status).toBe(200);
    const values = [...Float32Array.of(0.5, -2, 1 / 3)];
    expect(body).toEqual({
      id: expect.stringMatching(/^embd-[0-9a-f]{32}$/), object: "list", created: expect.any(Number), model: "the-model",
      data: [0, 1].map((index) => ({ index, object: "embedding", embedding: values })),
      usage: { prompt_tokens: 8, total_tokens: 8, completion_tokens: 0, prompt_tokens_details: null },
    });
    const packed = await ask("/v1/embeddings", { input: [7, 8, 9], encoding_format: "base64" });
    expect(packed.body.data).toHaveLength(1);
    const bytes = Uint8Array.from(atob(packed.body.data[0].embedding), (c) => c.charCodeAt(0));
    expect([...new Float32Array(bytes.buffer)]).toEqual(values);
    const own = fake();
    await own.fetch("/v1/embeddings", {
      method: "POST", headers: json, body: JSON.stringify({ input: [[1, 2], [3]], use_activation: false, pooling: "mean", truncate_prompt_tokens: 1 }),
    });
    expect(own.seen).toMatchObject({ prompts: [[2], [3]], pooling: { normalize: false, pooling: "mean" } });
  });

  test("embeddings of nothing, or of another model, are refused", async () => {
    const path = "/v1/embeddings";
    expect(await problems({ model: "the-model" }, path)).toEqual([expect.stringContaining("'missing', 'loc': 'body.input'")]);
    for (const [body, part, code] of [
      [{ input: "" }, "input must not be empty", 400], [{ input: [] }, "input must not be empty", 400],
      [{ input: [60] }, "Token id 60 is out of vocabulary", 400], [{ input: "x", model: "other" }, "does not exist", 404],
    ] as const) {
      const { status, body: { error } } = await ask(path, body);
      expect([status, error.code]).toEqual([code, code]);
      expect(error.message).toContain(part);
    }
    expect(await problems({ input: "x", encoding_format: "hex" }, path)).toEqual([expect.stringContaining("'float' or 'base64'")]);
  });

  test("a Request goes in as well as an address", async () => {
    const request = new Request(`http://x${CHAT}`, { method: "POST", headers: json, body: JSON.stringify({ messages, model: "the-model" }) });
    const answer = await (await fake().fetch(request)).json();
    expect(answer).toMatchObject({ object: "chat.completion", choices: [{ message: { content: "Hello" } }] });
  });
});

describe("answers", () => {
  test("a server passes over keys that it does not know, and names the model that there is", async () => {
    const { status, body } = await ask(CHAT, { messages, unheard_of: 1, service_tier: "flex" });
    expect({ status, model: body.model }).toEqual({ status: 200, model: "the-model" });
    expect(await ask(CHAT, { messages, model: "other" })).toMatchObject({
      status: 404,
      body: { error: { message: "The model `other` does not exist. Valid aliases: the-model.", type: "NotFoundError", param: "model", code: 404 } },
    });
  });

  test("server-sent events end with [DONE]", async () => {
    const { body, type } = await ask(CHAT, { messages, stream: true });
    expect(type).toBe("text/event-stream; charset=utf-8");
    const lines = body.split("\n\n");
    expect(lines.slice(-2)).toEqual(["data: [DONE]", ""]);
    const chunks = lines.slice(0, -2).map((line: string) => JSON.parse(line.slice("data: ".length)));
    expect(chunks.map((c: { choices: { delta: object }[] }) => c.choices[0]!.delta)).toEqual([{ role: "assistant", content: "" }, { content: "Hel" }, { content: "lo" }, {}]);
    expect(chunks.at(-1).system_fingerprint).toBe("embergram-0.1.0");
  });

  test("ids are the request's, of the body or the header", async () => {
    expect((await ask(CHAT, { messages, request_id: "a" })).body.id).toBe("chatcmpl-a");
    expect((await ask("/v1/completions", { prompt: "x" }, { headers: { ...json, "x-request-id": "b" } })).body.id).toBe("cmpl-b");
  });

  test("echo, ids, names of tokens", async () => {
    const { body } = await ask("/v1/completions", { prompt: [[0, 1]], echo: true });
    expect(body.choices[0].text).toBe("HelloHello");
    expect((await ask("/v1/completions", { prompt: "Say: ", echo: true, max_tokens: 0 })).body.choices[0].text).toBe("Say: ");
    const ids = (await ask("/v1/completions", { prompt: [7, 8, 9, 10], return_token_ids: true, logprobs: 0, return_tokens_as_token_ids: true })).body.choices[0];
    expect(ids).toMatchObject({ prompt_token_ids: [7, 8, 9, 10], token_ids: [0, 1, 3], logprobs: { tokens: ["token_id:0", "token_id:1", "token_id:3"] } });
    const said = [...messages, { role: "assistant", content: "So, " }];
    const chat = await ask(CHAT, { messages: said, echo: true, add_generation_prompt: false, continue_final_message: true, return_prompt_text: true });
    expect(chat.body).toMatchObject({ prompt_text: "<7><8><9><10>", choices: [{ message: { role: "assistant", content: "So, Hello" } }] });
  });

  test("an echoed prompt is told with how likely it was, as the recorded server did", async () => {
    const { request, response } = exchanges.find(({ name }) => name === "completion echo logprobs")!;
    const theirs = JSON.parse(response.body);
    const { tokens, token_logprobs, top_logprobs } = theirs.choices[0].logprobs;
    const prompt = [785, 12884, 374];
    // The texts that were recorded, under ids of their own where none was.
    const texts = new Map<number, string>([[785, "The"]]);
    for (const step of theirs.choices[0].prompt_logprobs) for (const [id, { decoded_token }] of Object.entries<{ decoded_token: string }>(step ?? {})) texts.set(Number(id), decoded_token);
    const idOf = (text: string): number => {
      const known = [...texts].find(([, own]) => own === text);
      if (!known) texts.set(5000 + texts.size, text);
      return known?.[0] ?? idOf(text);
    };
    const entry = (token_id: number, logprob: number, rank: number): TokenLogprob => ({ token_id, logprob, rank });
    const logprobs = tokens.slice(3).map((token: string, i: number) => [
      entry(idOf(token), token_logprobs[i + 3], 1), ...Object.entries<number>(top_logprobs[i + 3]).filter(([text]) => text !== token).map(([text, value], j) => entry(idOf(text), value, j + 2)),
    ]);
    const prompt_logprobs = theirs.choices[0].prompt_logprobs.map((step: Record<string, { logprob: number; rank: number }> | null, i: number) => step && Object.entries(step)
      .map(([id, { logprob, rank }]) => entry(Number(id), logprob, rank)).sort((a, b) => (a.token_id === prompt[i] ? -1 : b.token_id === prompt[i] ? 1 : a.rank - b.rank)));
    const { backend } = fake();
    const seen: object[] = [];
    const token_ids = logprobs.map(([chosen]: [TokenLogprob]) => chosen.token_id);
    const output = { index: 0, text: " covered with stars", token_ids, logprobs, finish_reason: "length" as const, stop_reason: null, error: null, metrics: null };
    const answering: ServerBackend = {
      ...backend, name: theirs.model, vocabSize: 151936, promptTokens: async () => [prompt], tokenTexts: async (ids) => ids.map((id) => texts.get(id)!),
      run: async (_, params) => (seen.push(params), [{ prompt: null, prompt_token_ids: prompt, outputs: [output], prompt_logprobs, metrics: null }]),
      async *deltas(_, params) {
        seen.push(params);
        yield [0, { ...output, text: " covered with", token_ids: token_ids.slice(0, 2), logprobs: logprobs.slice(0, 2), finish_reason: null, draft_positions: [], forced: [], prompt_logprobs }];
        yield [0, { ...output, text: " stars", token_ids: token_ids.slice(2), logprobs: logprobs.slice(2), draft_positions: [], forced: [] }];
        return [];
      },
    };
    const post = (body: unknown) => serverFetch(answering)("/v1/completions", { method: "POST", headers: json, body: JSON.stringify(body) });
    expect(differences(await (await post(request.body)).json(), theirs)).toEqual([]);
    expect(seen).toEqual([expect.objectContaining({ logprobs: 2, prompt_logprobs: 2, max_tokens: 3 })]);
    const chunks = (await (await post({ ...request.body, stream: true })).text()).split("\n\n").slice(0, 2).map((line) => JSON.parse(line.slice("data: ".length)).choices[0]);
    expect(chunks.map(({ text }) => text)).toEqual(["The sky is covered with", " stars"]);
    for (const key of ["text_offset", "token_logprobs", "tokens", "top_logprobs"]) expect(chunks.flatMap(({ logprobs: one }) => one[key]), key).toEqual(theirs.choices[0].logprobs[key]);
    expect(chunks.map(({ prompt_token_ids }) => prompt_token_ids)).toEqual([prompt, null]);
  });

  test("a prompt is cut where that is wanted", async () => {
    const cut = async (more: object) => {
      const { fetch, seen } = fake();
      await fetch("/v1/completions", { method: "POST", headers: json, body: JSON.stringify({ prompt: [1, 2, 3, 4], ...more }) });
      return seen.prompts;
    };
    expect(await cut({ truncate_prompt_tokens: 2 })).toEqual([[3, 4]]);
    expect(await cut({ truncate_prompt_tokens: 2, truncation_side: "right" })).toEqual([[1, 2]]);
    expect(await cut({ prompt: Array.from({ length: 120 }, (_, i) => i % 50), truncate_prompt_tokens: -1 })).toEqual([Array.from({ length: 99 }, (_, i) => (i + 21) % 50)]);
  });
});

describe("aborts are those of fetch", () => {
  const start = (init: RequestInit, own = fake({}, true)) => ({ ...own, response: own.fetch(CHAT, { method: "POST", headers: json, body: JSON.stringify({ messages, stream: true }), ...init }) });

  test("before and during a call it rejects with the signal's reason", async () => {
    await expect(start({ signal: AbortSignal.abort() }).response).rejects.toMatchObject({ name: "AbortError" });
    const stop = new AbortController();
    const { response, seen } = start({ signal: stop.signal, body: JSON.stringify({ messages }) });
    setTimeout(() => stop.abort(new Error("mine")), 20);
    await expect(response).rejects.toThrow("mine");
    expect(seen.signal!.aborted).toBe(true);
  });

  test("during a stream its body fails", async () => {
    const stop = new AbortController();
    const reader = (await start({ signal: stop.signal }).response).body!.getReader();
    await reader.read();
    stop.abort();
    await expect((async () => { while (!(await reader.read()).done); })()).rejects.toMatchObject({ name: "AbortError" });
  });

  test("a cancelled body ends the call", async () => {
    const { response, seen } = start({});
    await (await response).body!.cancel();
    expect(seen.left).toBe(true);
    expect(seen.signal!.aborted).toBe(true);
  });
});

describe("refusals", () => {
  const missing = "{'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 1 items>'}";
  test.each<[object | string | null, string[]]>([
    [{ n: 1 }, [missing]],
    [{ messages: 5 }, ["{'type': 'list_type', 'loc': 'body.messages', 'msg': 'Input should be a valid list', 'input': '5'}"]],
    [{ messages: [5] }, ["{'type': 'dict_type', 'loc': 'body.messages.0', 'msg': 'Input should be a valid dictionary', 'input': '5'}"]],
    [{ messages, n: "x" }, ["{'type': 'int_parsing', 'loc': 'body.n', 'msg': 'Input should be a valid integer, unable to parse string as an integer', 'input': 'x'}"]],
    [{ messages, n: 1.5 }, ["{'type': 'int_from_float', 'loc': 'body.n', 'msg': 'Input should be a valid integer, got a number with a fractional part', 'input': '1.5'}"]],
    [{ messages, n: [1] }, ["{'type': 'int_type', 'loc': 'body.n', 'msg': 'Input should be a valid integer', 'input': '<list of 1 items>'}"]],
    [{ messages, temperature: "hot" }, ["{'type': 'float_parsing', 'loc': 'body.temperature', 'msg': 'Input should be a valid number, unable to parse string as a number', 'input': 'hot'}"]],
    [{ messages, top_p: {} }, ["{'type': 'float_type', 'loc': 'body.top_p', 'msg': 'Input should be a valid number', 'input': '<dict of 0 items>'}"]],
    [{ messages, ignore_eos: null }, ["{'type': 'bool_type', 'loc': 'body.ignore_eos', 'msg': 'Input should be a valid boolean', 'input': 'None'}"]],
    [{ messages, ignore_eos: "it's" }, ["{'type': 'bool_parsing', 'loc': 'body.ignore_eos', 'msg': 'Input should be a valid boolean, unable to interpret input', 'input': \"it's\"}"]],
    [{ messages, stop: 5 }, [
      "{'type': 'string_type', 'loc': 'body.stop', 'msg': 'Input should be a valid string', 'input': '5'}",
      "{'type': 'list_type', 'loc': 'body.stop', 'msg': 'Input should be a valid list', 'input': '5'}",
    ]],
    [{ messages, logit_bias: { 5: "x" } }, ["{'type': 'float_parsing', 'loc': 'body.logit_bias.5', 'msg': 'Input should be a valid number, unable to parse string as a number', 'input': 'x'}"]],
    [{ messages, truncate_prompt_tokens: -3 }, ["{'type': 'greater_than_equal', 'loc': 'body.truncate_prompt_tokens', 'msg': 'Input should be greater than or equal to -1', 'input': '-3', 'ctx': {'ge': -1}}"]],
    [{ messages, truncation_side: "top" }, ["{'type': 'literal_error', 'loc': 'body.truncation_side', 'msg': \"Input should be 'left' or 'right'\", 'input': 'top', 'ctx': {'expected': \"'left' or 'right'\"}}"]],
    [{ n: "x", top_k: [] }, [missing.replace("1 items", "2 items"), "{'type': 'int_parsing', 'loc': 'body.n', 'msg': 'Input should be a valid integer, unable to parse string as an integer', 'input': 'x'}", "{'type': 'int_type', 'loc': 'body.top_k', 'msg': 'Input should be a valid integer', 'input': '<list of 0 items>'}"]],
    ["[]", ["{'type': 'model_attributes_type', 'loc': 'body', 'msg': 'Input should be a valid dictionary or object to extract fields from', 'input': '<list of 0 items>'}"]],
    ["", ["{'type': 'missing', 'loc': 'body', 'msg': 'Field required', 'input': 'None'}"]],
  ])("of types, as pydantic: %j", async (body, lines) => {
    expect(await problems(body)).toEqual(lines);
  });

  test("of a body that could be of two kinds, for both", async () => {
    const missing = (name: string) => `{'type': 'missing', 'loc': 'body.${name}', 'msg': 'Field required', 'input': '<dict of 0 items>'}`;
    expect(await problems({}, "/tokenize")).toEqual([missing("prompt"), missing("messages")]);
    expect((await problems({ prompt: 5 }, "/tokenize")).map((line) => /'type': '(\w+)'/.exec(line)![1])).toEqual(["string_type", "missing"]);
    expect(await problems({}, "/detokenize")).toEqual([missing("tokens")]);
  });

  test("a text that is accepted for a number is one", async () => {
    const { fetch, seen } = fake();
    await fetch(CHAT, { method: "POST", headers: json, body: JSON.stringify({ messages, temperature: "0.5", n: "2", ignore_eos: 1 }) });
    expect(seen.params).toMatchObject({ temperature: 0.5, n: 2, ignore_eos: true });
  });

  test("of a body that is no JSON, as FastAPI", async () => {
    const { body: { error } } = await ask(CHAT, '{"messages": }');
    expect(error).toEqual({
      message: "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.13', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting value'}}",
      type: "Bad Request", param: "body.13", code: 400,
    });
    const other = await ask(CHAT, "{}", { headers: { "content-type": "text/plain" } });
    expect(other.body.error).toMatchObject({ message: "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed", param: null });
  });

  // Python 3.11's json.loads, asked.
  test.each([
    ["{nope", 1, "Expecting property name enclosed in double quotes"], ['{"a" 1}', 5, "Expecting ':' delimiter"],
    ['{"a": 1 "b"}', 8, "Expecting ',' delimiter"], ['{"a": 1,}', 8, "Expecting property name enclosed in double quotes"],
    ["[1 2]", 3, "Expecting ',' delimiter"], ["[1,]", 3, "Expecting value"], ["[", 1, "Expecting value"],
    ['"abc', 0, "Unterminated string starting at"], ['"a\nb"', 2, "Invalid control character at"], ['"\\x"', 1, "Invalid \\escape"],
    ["1 2", 2, "Extra data"], ["tru", 0, "Expecting value"], ['{"\u{1f600}": nope}', 6, "Expecting value"], ['{"a": [1, {"b": ]}', 16, "Expecting value"],
  ])("where Python's json fails in %j", (text, at, message) => {
    expect(jsonError(text)).toEqual({ at, message });
  });

  test.each<[object, string, string | null]>([
    [{ temperature: -1 }, "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)", "temperature"],
    [{ temperature: 2.5 }, "temperature must be in [0, 2], got 2.5. (parameter=temperature, value=2.5)", "temperature"],
    [{ top_p: 0 }, "top_p must be in (0, 1], got 0.0. (parameter=top_p, value=0.0)", "top_p"],
    [{ top_k: -2 }, "top_k must be 0 (disable), or at least 1, got -2.", null],
    [{ min_p: 1.5 }, "min_p must be in [0, 1], got 1.5.", null],
    [{ presence_penalty: 3 }, "presence_penalty must be in [-2, 2], got 3.0.", null],
    [{ repetition_penalty: 0 }, "repetition_penalty must be greater than zero, got 0.0.", null],
    [{ n: 0 }, "n must be at least 1, got 0.", null],
    [{ n: 2, temperature: 0 }, "n must be 1 when using greedy sampling, got 2.", null],
    [{ max_tokens: 0 }, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", "max_tokens"],
    [{ max_tokens: 400 }, "max_tokens=400 cannot be greater than max_model_len=100. Please request fewer output tokens. (parameter=max_tokens, value=400)", "max_tokens"],
    [{ max_completion_tokens: 400 }, "max_completion_tokens=400 cannot be greater than max_model_len=100. Please request fewer output tokens. (parameter=max_completion_tokens, value=400)", "max_completion_tokens"],
    [{ min_tokens: 9, max_tokens: 4 }, "min_tokens must be less than or equal to max_tokens=4, got 9.", null],
    [{ stop: "" }, "stop cannot contain an empty string.", null],
    [{ logprobs: true, top_logprobs: 21 }, "Requested sample logprobs of 21, which is greater than max allowed: 20 (parameter=logprobs, value=21)", "logprobs"],
    [{ logit_bias: { 99: 1 } }, "token_id(s) [99] in logit_bias contain out-of-vocab token ids. Vocabulary size: 50 (parameter=logit_bias, value=[99])", "logit_bias"],
    [{ logit_bias: { x: 1 } }, "logit_bias contains key(s) that cannot be converted to integer token IDs: ['x'] (parameter=logit_bias, value=['x'])", "logit_bias"],
    [{ stop_token_ids: [-1, 60] }, "token_id(s) [-1, 60] in stop_token_ids contain out-of-vocab token ids. Vocabulary size: 50 (parameter=stop_token_ids, value=[-1, 60])", "stop_token_ids"],
    [{ prompt_logprobs: 21 }, "Requested prompt logprobs of 21, which is greater than max allowed: 20 (parameter=prompt_logprobs, value=21)", "prompt_logprobs"],
    [{ prompt_logprobs: 1, stream: true }, "`prompt_logprobs` are not available when `stream=True`. (parameter=prompt_logprobs)", "prompt_logprobs"],
    [{ allowed_token_ids: [] }, "allowed_token_ids is not None and empty! (parameter=allowed_token_ids, value=[])", "allowed_token_ids"],
    [{ allowed_token_ids: [1, 99] }, "allowed_token_ids contains out-of-vocab token id! (parameter=allowed_token_ids, value=[99])", "allowed_token_ids"],
    [{ bad_words: ["a", ""] }, "bad_words cannot contain an empty string. Got bad_words=['a', '']", null],
    [{ top_logprobs: "3" }, "`top_logprobs` must be an integer. (parameter=top_logprobs, value=3)", "top_logprobs"],
    [{ stream_options: { include_usage: true } }, "Stream options can only be defined when `stream=True`. (parameter=stream_options)", "stream_options"],
    [{ continue_final_message: true, add_generation_prompt: true }, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.", null],
    [{ chat_template: "x" }, "Chat template is passed with request, but --trust-request-chat-template is not set. Refused request with untrusted chat template.", null],
    [{ truncate_prompt_tokens: 200 }, "truncate_prompt_tokens=200 cannot be greater than max_model_len = 100. Please request a smaller truncation size. (parameter=truncate_prompt_tokens, value=200)", "truncate_prompt_tokens"],
  ])("of values, as vLLM: %j", async (body, message, param) => {
    const own = fake();
    const response = await own.fetch(CHAT, { method: "POST", headers: json, body: JSON.stringify({ messages, ...body }) });
    expect(response.status).toBe(400);
    expect(await response.json()).toEqual({ error: { message, type: "BadRequestError", param, code: 400 } });
    expect(own.seen.runs).toBe(0);
  });
});
