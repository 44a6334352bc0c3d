// The shapes of the OpenAI door, over a model that says what it is told. What a real one gives is in tests/e2e.
import { describe, expect, test } from "vitest";
import { EmbergramError } from "../../www/embergram/error.js";
import { fake } from "./fake.js";

const messages = [{ role: "user", content: "Hi" }];
const refusal = (code: string, ...words: string[]) => ({
  code, message: expect.stringMatching(new RegExp(words.map((w) => `(?=[^]*${w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")})`).join(""))),
});
async function all<T>(stream: Promise<AsyncIterable<T>>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of await stream) items.push(item);
  return items;
}

describe("chat.completions.create", () => {
  test("gives OpenAI's object, with vLLM's figures at its root", async () => {
    const answer = await fake().chat.create({ messages, n: 2 });
    expect(answer).toEqual({
      id: expect.stringMatching(/^chatcmpl-[0-9a-f]{32}$/),
      object: "chat.completion",
      created: expect.any(Number),
      model: "the-model",
      choices: [0, 1].map((index) => ({
        index,
        message: { role: "assistant", content: "Hello", refusal: null, annotations: null, audio: null, function_call: null, reasoning: null },
        finish_reason: "stop", logprobs: null, stop_reason: null, token_ids: null, routed_experts: null,
      })),
      service_tier: null, system_fingerprint: "embergram-0.1.0", prompt_logprobs: null, prompt_token_ids: null, prompt_text: null,
      kv_transfer_params: null, ec_transfer_params: null,
      usage: {
        prompt_tokens: 4, completion_tokens: 6, total_tokens: 10, prompt_tokens_details: { cached_tokens: 2 },
        completion_tokens_details: null,
      },
      metrics: {
        speculative_decoding: {
          acceptance_histogram: [2, 1, 4], num_spec_steps: 7, num_accepted_draft_tokens: 9, num_draft_tokens: 20,
          mean_acceptance_length: 1 + 9 / 7, draft_acceptance_rate: 9 / 20, num_spec_tokens: 2,
        },
      },
    });
    expect(Math.abs(answer.created - Date.now() / 1000)).toBeLessThan(5);
  });

  test("maps parameters: null is a default, and no limit is the room left", async () => {
    const { chat, seen } = fake();
    await chat.create({
      messages, model: "gpt", temperature: null, n: null, seed: 5, stop: ["x"], top_k: 3, logit_bias: { 5: -200 }, user: "me",
      response_format: { type: "text" },
    });
    expect(seen.params).toEqual({ n: 1, seed: 5, stop: ["x"], top_k: 3, logit_bias: { 5: -100 }, max_tokens: null });
    await chat.create({ messages, max_completion_tokens: 9, temperature: 0 });
    expect(seen.params).toEqual({ n: 1, max_tokens: 9, temperature: 0 });
    expect((await chat.create({ messages, model: "gpt" })).model).toBe("gpt");
  });

  test("leaves what is left out to the model's defaults, whose max_tokens comes before the room left", async () => {
    const { chat, text, seen } = fake({ temperature: 0.6, max_tokens: 100 });
    await chat.create({ messages });
    expect(seen.params).toEqual({ n: 1, max_tokens: 100 });
    await chat.create({ messages, max_tokens: 5, temperature: 1 });
    expect(seen.params).toEqual({ n: 1, max_tokens: 5, temperature: 1 });
    await text.create({ prompt: "a", max_tokens: null });
    expect(seen.params).toEqual({ n: 1, max_tokens: 16 });
  });

  test("gives the template what vLLM's server gives it", async () => {
    const { chat, seen } = fake();
    const template = {
      documents: [{ title: "t", text: "x" }], chat_template_kwargs: { enable_thinking: false }, add_generation_prompt: false,
      continue_final_message: true,
    };
    await chat.create({ messages, ...template });
    expect(seen.work).toEqual({ chats: [messages], template });
    await chat.create({ messages, documents: null, chat_template_kwargs: null, add_generation_prompt: null });
    expect(seen.work).toEqual({ chats: [messages], template: {} });
    const tools = [{ type: "function" as const, function: { name: "f" } }];
    await chat.create({ messages, tools });
    expect(seen.work).toEqual({ chats: [messages], template: { tools } });
    await chat.create({ messages, reasoning_effort: "low" });
    expect(seen.work).toEqual({ chats: [messages], template: { chat_template_kwargs: { enable_thinking: true, reasoning_effort: "low" } } });
    const chat_template = "{{ messages }}";
    await expect(chat.create({ messages, chat_template } as never)).rejects.toMatchObject(refusal("invalid_params", "untrusted chat template"));
  });

  test("takes text parts, and an answer's message as it came", async () => {
    const { chat, seen } = fake();
    const { choices } = await chat.create({ messages });
    await chat.create({
      messages: [choices[0]!.message, { role: "user", content: [{ type: "text", text: "a" }, { type: "text", text: "b" }] }],
    });
    const chats = [[{ role: "assistant", content: "Hello" }, { role: "user", content: "a\nb" }]];
    expect(seen.work).toEqual({ chats, template: {} });
  });

  test("names tokens by text and bytes", async () => {
    const { chat, seen } = fake();
    const answer = await chat.create({ messages, logprobs: true, top_logprobs: 1 });
    expect(seen.params!.logprobs).toBe(1);
    const own = { token: "Hel", bytes: [72, 101, 108], logprob: -1 };
    // As in vLLM the chosen token is the first of the most likely, whatever its rank.
    expect(answer.choices[0]!.logprobs!.content[0]).toEqual({ ...own, top_logprobs: [own] });
    const both = (await chat.create({ messages, logprobs: true, top_logprobs: 2 })).choices[0]!.logprobs!.content;
    // A part of a character is named by what it completes after the token before it, and else by nothing.
    expect(both.map(({ top_logprobs }) => top_logprobs[1])).toEqual([
      { token: "", bytes: [], logprob: -0.5 }, { token: "", bytes: [], logprob: -0.5 }, { token: "\u{e9}", bytes: [195, 169], logprob: -0.5 },
    ]);
    const without = await chat.create({ messages, logprobs: true });
    expect(without.choices[0]!.logprobs!.content[0]!.top_logprobs).toEqual([]);
  });

  test("streams the role, the text, an end, and the usage when asked", async () => {
    const chunks = await all(fake().chat.create({ messages, n: 2, stream: true, stream_options: { include_usage: true } }));
    expect(new Set(chunks.map((c) => c.id)).size).toBe(1);
    expect(chunks.map((c) => c.choices.map((x) => [x.index, x.delta, x.finish_reason]).flat())).toEqual([
      [0, { role: "assistant", content: "" }, null], [1, { role: "assistant", content: "" }, null],
      [0, { content: "Hel" }, null], [1, { content: "Hel" }, null],
      [0, { content: "lo" }, null], [1, { content: "lo" }, null],
      [0, {}, "length"], [1, {}, "length"], [],
    ]);
    expect(chunks.slice(0, -1).every((c) => !("usage" in c) && !("metrics" in c))).toBe(true);
    expect(chunks.at(-1)).toMatchObject({
      object: "chat.completion.chunk", choices: [], usage: { total_tokens: 10 },
      metrics: { speculative_decoding: { num_spec_steps: 7 } },
    });
    const plain = await all(fake().chat.create({ messages, stream: true }));
    expect(plain.some((c) => "usage" in c || c.choices.length === 0)).toBe(false);
  });

  test("streams every logprob, also of tokens without text", async () => {
    const { chat, seen } = fake();
    const chunks = await all(chat.create({ messages, logprobs: true, top_logprobs: 1, stream: true }));
    const whole = await chat.create({ messages, logprobs: true, top_logprobs: 1 });
    const content = chunks.flatMap((c) => c.choices.flatMap((x) => x.logprobs?.content ?? []));
    expect(content).toEqual(whole.choices[0]!.logprobs!.content);
    // Each token's text was asked for once a call, but for what parts of characters come after.
    expect(seen.asked.slice(0, 2)).toEqual([[0, 2], [1]]);
  });

  test("leaving a stream, or its controller, ends the request; the caller's signal is an error", async () => {
    const { chat, seen } = fake();
    for await (const _ of await chat.create({ messages, stream: true })) break;
    expect(seen.left).toBe(true);
    let chunks = 0;
    const stream = await chat.create({ messages, stream: true });
    for await (const _ of stream) {
      chunks += 1;
      stream.controller.abort();
    }
    expect(chunks).toBe(2);
    const own = new AbortController();
    const aborted = (async () => {
      for await (const _ of await chat.create({ messages, stream: true }, { signal: own.signal })) own.abort();
    })();
    await expect(aborted).rejects.toMatchObject({ code: "aborted" });
    await chat.create({ messages }, { signal: own.signal });
    expect(seen.signal).toBe(own.signal);
  });

  test.each<[string, object, string, ...string[]]>([
    ["tools that are none", { tools: [{}] }, "invalid_params", "tools[0].type is undefined"],
    ["tool_choice without tools", { tool_choice: "auto" }, "invalid_params", "tool_choice needs tools"],
    ["an older name of vLLM's", { guided_json: {} }, "invalid_params", "guided_json is vLLM's older name", "structured_outputs: { json }"],
    ["a prediction of another shape", { prediction: { type: "text" } }, "invalid_params", "prediction must be"],
    ["functions", { functions: [] }, "invalid_params", "functions is not supported"],
    ["a format that is none", { response_format: { type: "xml" } }, "invalid_params", "response_format.type is \"xml\""],
    ["a misspelt key", { max_token: 3 }, "invalid_params", "unknown parameter 'max_token'", "did you mean max_tokens?"],
    ["a key of another door", { prompt: "x" }, "invalid_params", "unknown parameter 'prompt'"],
    ["a key of every object", { constructor: 1 }, "invalid_params", "unknown parameter 'constructor'"],
    ["top_logprobs alone", { top_logprobs: 2 }, "invalid_params", "when using `top_logprobs`, `logprobs` must be set to true."],
    ["a number for logprobs", { logprobs: 3 }, "invalid_params", "'loc': 'body.logprobs'", "Input should be a valid boolean"],
    ["stream_options without stream", { stream_options: { include_usage: true } }, "invalid_params", "only be defined when `stream=True`"],
    ["an unknown stream option", { stream: true, stream_options: { usage: true } }, "invalid_params", "stream_options.usage"],
    ["beam search", { use_beam_search: true }, "invalid_params", "use_beam_search is not supported: there is no beam search"],
    ["no messages", { messages: [] }, "invalid_prompt", "messages must have at least one message"],
    ["an image", { messages: [{ role: "user", content: [{ type: "image_url" }] }] }, "invalid_prompt", "messages[0].content[0]", "'image_url'"],
    ["a message without content", { messages: [{ role: "user" }] }, "invalid_prompt", "messages[0].content is missing"],
    ["a message without role", { messages: [{ content: "x" }] }, "invalid_prompt", "messages[0].role"],
  ])("refuses %s", async (_, body, code, ...words) => {
    const { chat, seen } = fake();
    const refused = chat.create({ messages, ...body } as never);
    await expect(refused).rejects.toBeInstanceOf(EmbergramError);
    await expect(refused).rejects.toMatchObject(refusal(code, ...words));
    expect(seen.work).toBeUndefined();
  });

  test("what asks for nothing is no error", async () => {
    await fake().chat.create({ messages, tools: undefined, tool_choice: "none", store: false, functions: null } as never);
  });
});

describe("completions.create", () => {
  test("gives a choice for each of n, prompt by prompt", async () => {
    const { text, seen } = fake();
    const answer = await text.create({ prompt: ["a", "b"], n: 2, logprobs: 1 });
    expect(answer).toMatchObject({ id: expect.stringMatching(/^cmpl-/), object: "text_completion", usage: { prompt_tokens: 8, completion_tokens: 12 } });
    expect(answer.choices.map((c) => [c.index, c.text, c.finish_reason])).toEqual([0, 1, 2, 3].map((i) => [i, "Hello", "stop"]));
    expect(answer.choices[3]!.logprobs).toEqual({
      tokens: ["Hel", "lo", "<eos>"], token_logprobs: [-1, -1, -1], text_offset: [0, 3, 5],
      top_logprobs: [{ Hel: -1, "": -0.5 }, { lo: -1, "": -0.5 }, { "<eos>": -1, "\u{e9}": -0.5 }],
    });
    expect(seen.work).toEqual({ prompts: ["a", "b"] });
    expect(seen.params!.max_tokens).toBe(16);
  });

  test("streams all choices, with offsets that go on", async () => {
    const chunks = await all(fake().text.create({ prompt: [[1, 2, 3, 4], [2, 3, 4, 5]], n: 2, logprobs: 0, stream: true, stream_options: { include_usage: true } }));
    const texts = [0, 1, 2, 3].map((i) => chunks.flatMap((c) => c.choices).filter((c) => c.index === i));
    expect(texts.map((parts) => parts.map((p) => p.text).join(""))).toEqual(["Hello", "Hello", "Hello", "Hello"]);
    expect(texts[2]!.flatMap((p) => p.logprobs!.text_offset)).toEqual([0, 3, 5]);
    expect(texts.every((parts) => parts.at(-1)!.finish_reason === "length")).toBe(true);
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: 8, completion_tokens: 12 } });
  });

  test.each([
    ["a text", "a", ["a"]],
    ["texts", ["a", "b"], ["a", "b"]],
    ["ids", [1, 2], [[1, 2]]],
    ["lists of ids", [[1], [2]], [[1], [2]]],
  ])("takes %s", async (_, prompt, prompts) => {
    const { text, seen } = fake();
    await text.create({ prompt } as { prompt: string });
    expect(seen.work).toEqual({ prompts });
  });

  test.each<[string, object, string, string]>([
    ["a suffix", { suffix: "x" }, "invalid_params", "suffix is only supported for models with FIM"],
    ["best_of", { best_of: 3 }, "invalid_params", "best_of is not supported"],
    ["a misspelt key", { temprature: 1 }, "invalid_params", "did you mean temperature?"],
    ["an empty list", { prompt: [] }, "invalid_prompt", "must be provided and non-empty"],
    ["a mixed list", { prompt: [1, "a"] }, "invalid_params", "'loc': 'body.prompt.1'"],
    ["a token that is none", { prompt: [1, 50] }, "invalid_prompt", "Token id 50 is out of vocabulary"],
    ["a prompt of one token more than fits", { prompt: Array(101).fill(1) }, "prompt_too_long", "contains at least 101 input tokens"],
    ["a long prompt", { prompt: Array(102).fill(1) }, "prompt_too_long", "contains 102 input tokens"],
    ["a prompt without room", { prompt: Array(100).fill(1) }, "invalid_params", "max_tokens must be at least 1, got 0."],
  ])("refuses %s", async (_, body, code, words) => {
    await expect(fake().text.create({ prompt: "x", ...body } as never)).rejects.toMatchObject(refusal(code, words));
  });
});
