// Checked by tsc alone: what the door gives is what OpenAI's own types say, so that code written for their client takes it.
import Client, { type OpenAI } from "openai";
import type { Llm } from "../../www/embergram/index.js";

declare const llm: Llm;

export async function answers(): Promise<OpenAI.Chat.ChatCompletion | OpenAI.Completion> {
  const chat: OpenAI.Chat.ChatCompletion = await llm.chat.completions.create({ messages: [{ role: "user", content: "x" }] });
  const completion: OpenAI.Completion = await llm.completions.create({ prompt: "x" });
  const history: OpenAI.Chat.ChatCompletionMessageParam[] = chat.choices.map((choice) => choice.message);
  return history.length > 0 ? chat : completion;
}

export async function* chunks(): AsyncGenerator<OpenAI.Chat.ChatCompletionChunk> {
  const stream = await llm.chat.completions.create({ messages: [{ role: "user", content: "x" }], stream: true });
  const controller: AbortController = stream.controller;
  if (!controller.signal.aborted) yield* stream;
}

/** Bodies that a server would take are taken too. */
export const bodies = {
  chat: { model: "any", messages: [{ role: "system", content: "x" }], max_completion_tokens: 5, temperature: 0.5, n: 2 },
  completion: { model: "any", prompt: ["a", "b"], logprobs: 2, stop: ["."] },
} satisfies { chat: OpenAI.Chat.ChatCompletionCreateParams; completion: OpenAI.CompletionCreateParams } satisfies {
  chat: Parameters<Llm["chat"]["completions"]["create"]>[0];
  completion: Parameters<Llm["completions"]["create"]>[0];
};

/** The client itself takes the fetch. */
export const client = new Client({ fetch: llm.fetch, baseURL: "http://localhost/v1", apiKey: "none" });

/** Tools, a shape, a prediction, and what a tool answered. */
export async function calls(tools: OpenAI.Chat.ChatCompletionFunctionTool[]): Promise<OpenAI.Chat.ChatCompletionMessageFunctionToolCall[]> {
  const messages: OpenAI.Chat.ChatCompletionMessageParam[] = [{ role: "user", content: "x" }];
  const { choices: [choice] } = await llm.chat.completions.create({ messages: [{ role: "user", content: "x" }], tools, tool_choice: "required" });
  messages.push(choice!.message, { role: "tool", tool_call_id: choice!.message.tool_calls?.[0]!.id ?? "", content: "5" });
  const schema = { type: "object" };
  await llm.chat.completions.create({
    model: "any", messages: [], response_format: { type: "json_schema", json_schema: { name: "x", schema, strict: true } },
    prediction: { type: "content", content: "x" },
  } satisfies OpenAI.Chat.ChatCompletionCreateParams);
  return choice!.message.tool_calls ?? [];
}

/** What a chat takes beside its messages, and what a model recommends. */
export async function templates(): Promise<number | undefined> {
  const tools: OpenAI.Chat.ChatCompletionTool[] = [{ type: "function", function: { name: "f", parameters: {} } }];
  const messages = [{ role: "tool", content: "5", tool_call_id: "1" }];
  await llm.chat(messages, {}, { tools, documents: null, chat_template_kwargs: { enable_thinking: false } });
  await llm.chat.completions.create({ messages: [], chat_template_kwargs: { enable_thinking: false } });
  // @ts-expect-error: a misspelt option
  await llm.chat(messages, {}, { template_kwargs: {} });
  return llm.model.defaults.temperature;
}
