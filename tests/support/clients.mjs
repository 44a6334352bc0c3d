// The clients that people have, as they are, over `llm.fetch`: what each gives, for tests in Node and in a page.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { Agent, OpenAIChatCompletionsModel, run, setTracingDisabled } from "@openai/agents";
import { embed, generateText, jsonSchema, Output, streamText, tool } from "ai";
import OpenAI from "openai";

const baseURL = "http://localhost/v1";
const question = "Say hello.";
const messages = [{ role: "user", content: question }];
const most = 12;
/** What an answer must be, and is by little freedom. */
const schema = {
  type: "object", properties: { greeting: { enum: ["hello", "hi"] }, loud: { type: "boolean" } }, required: ["greeting", "loud"], additionalProperties: false,
  // A tiny model would write white space for ever.
  "x-guidance": { whitespace_flexible: false },
};
const greet = { type: "function", function: { name: "greet", description: "Greets", parameters: schema } };

/** What a promise is refused with, or that it is not. */
const refusal = (promise) => promise.then(() => "no error", (error) => ({ name: error.name, status: error.status ?? error.statusCode, message: error.message }));

/** Aborts a stream after its first text, and tells what came of it. */
async function cutOff(start) {
  const stop = new AbortController();
  let text = "";
  try {
    for await (const part of await start(stop.signal)) {
      text += part;
      if (text !== "") stop.abort();
    }
    return { text, ended: true };
  } catch (error) {
    return { text, error: error.name };
  }
}

export const clients = {
  async openai(llm) {
    const client = new OpenAI({ fetch: llm.fetch, baseURL, apiKey: "none", dangerouslyAllowBrowser: true, maxRetries: 0 });
    const model = llm.model.name;
    const body = { model, messages, max_tokens: most, temperature: 0 };
    const texts = async function* (stream) {
      for await (const chunk of stream) yield chunk.choices[0]?.delta.content ?? "";
    };
    let streamed = "";
    for await (const text of texts(await client.chat.completions.create({ ...body, stream: true }))) streamed += text;
    return {
      whole: (await client.chat.completions.create(body)).choices[0].message.content,
      streamed,
      completion: (await client.completions.create({ model, prompt: question, max_tokens: 4, temperature: 0 })).choices[0].text,
      object: JSON.parse((await client.chat.completions.create({
        ...body, max_tokens: 120, response_format: { type: "json_schema", json_schema: { name: "greeting", strict: true, schema } },
      })).choices[0].message.content),
      call: JSON.parse((await client.chat.completions.stream({ ...body, max_tokens: 120, tools: [greet], tool_choice: "required", parallel_tool_calls: false })
        .finalChatCompletion()).choices[0].message.tool_calls[0].function.arguments),
      models: (await client.models.list()).data.map(({ id }) => id),
      embedding: (await client.embeddings.create({ model, input: question })).data[0].embedding,
      aborted: await cutOff(async (signal) => texts(await client.chat.completions.create({ ...body, max_tokens: 400, ignore_eos: true, stream: true }, { signal }))),
      refused: await refusal(client.chat.completions.create({ ...body, temperature: 5 })),
      unknown: await refusal(client.chat.completions.create({ ...body, model: "other" })),
    };
  },

  async ai(llm) {
    const provider = createOpenAICompatible({ name: "embergram", baseURL, fetch: llm.fetch, supportsStructuredOutputs: true });
    const model = provider(llm.model.name);
    const settings = { model, prompt: question, maxOutputTokens: most, temperature: 0, maxRetries: 0 };
    let streamed = "";
    for await (const text of streamText(settings).textStream) streamed += text;
    const { text, finishReason, usage } = await generateText(settings);
    return {
      whole: text, streamed, finishReason, tokens: usage.outputTokens,
      object: (await generateText({ ...settings, maxOutputTokens: 120, output: Output.object({ schema: jsonSchema(schema) }) })).output,
      call: (await generateText({ ...settings, maxOutputTokens: 120, tools: { greet: tool({ description: "Greets", inputSchema: jsonSchema(schema) }) }, toolChoice: "required" })).toolCalls[0].input,
      embedding: (await embed({ model: provider.textEmbeddingModel(llm.model.name), value: question })).embedding,
      aborted: await cutOff((abortSignal) => streamText({ ...settings, maxOutputTokens: 400, abortSignal }).textStream),
      refused: await refusal(generateText({ ...settings, temperature: 5 })),
    };
  },

  async langchain(llm) {
    const shared = { model: llm.model.name, apiKey: "none", maxRetries: 0, configuration: { fetch: llm.fetch, baseURL, dangerouslyAllowBrowser: true } };
    const make = (more = {}) => new ChatOpenAI({ ...shared, maxTokens: most, temperature: 0, ...more });
    const texts = async function* (stream) {
      for await (const { content } of stream) yield content;
    };
    let streamed = "";
    for await (const text of texts(await make().stream(question))) streamed += text;
    return {
      whole: (await make().invoke(question)).content, streamed,
      embedding: await new OpenAIEmbeddings(shared).embedQuery(question),
      object: await make({ maxTokens: 120 }).withStructuredOutput(schema, { name: "greeting", method: "jsonSchema" }).invoke(question),
      call: (await make({ maxTokens: 120 }).bindTools([greet], { tool_choice: "required", parallel_tool_calls: false }).invoke(question)).tool_calls[0].args,
      aborted: await cutOff(async (signal) => texts(await make({ maxTokens: 400 }).stream(question, { signal }))),
      refused: await refusal(make({ temperature: 5 }).invoke(question)),
    };
  },

  async agents(llm) {
    setTracingDisabled(true);
    const client = new OpenAI({ fetch: llm.fetch, baseURL, apiKey: "none", dangerouslyAllowBrowser: true, maxRetries: 0 });
    const agent = (settings) => new Agent({ name: "one", model: new OpenAIChatCompletionsModel(client, llm.model.name), modelSettings: { temperature: 0, maxTokens: most, ...settings } });
    const stream = await run(agent(), question, { stream: true });
    let streamed = "";
    for await (const text of stream.toTextStream()) streamed += text;
    return {
      whole: (await run(agent(), question)).finalOutput, streamed,
      refused: await refusal(run(agent({ temperature: 5 }), question)),
    };
  },
};
