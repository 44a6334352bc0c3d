// Conversations with tools by OpenAI's own client over `llm.fetch`, for tests in Node and in a page.
import OpenAI from "openai";

const city = { type: "string" };
const unit = { enum: ["celsius", "fahrenheit"] };
const tool = (name, description, parameters) => ({ type: "function", function: { name, description, parameters: { type: "object", additionalProperties: false, ...parameters } } });

export const WEATHER = tool("get_weather", "Current weather of a city", { properties: { city, unit }, required: ["city", "unit"] });
export const TIME = tool("get_time", "Local time in a city", { properties: { city }, required: ["city"] });
const asked = (content) => [{ role: "user", content }];
const most = { temperature: 0, max_tokens: 96 };

/** Whether a stream's deltas, put together by the client, are the answer that comes as a whole. */
async function bothWays(client, body) {
  const { choices: [{ message, finish_reason }] } = await client.chat.completions.create(body);
  const stream = client.chat.completions.stream(body);
  let pieces = 0;
  stream.on("tool_calls.function.arguments.delta", () => (pieces += 1));
  const { choices: [streamed] } = await stream.finalChatCompletion();
  const plain = ({ content, tool_calls = [] }) => ({ content: content ?? "", calls: tool_calls.map(({ type, function: { name, arguments: given } }) => [type, name, given]) });
  return { whole: plain(message), streamed: plain(streamed.message), ends: [finish_reason, streamed.finish_reason], pieces };
}

/** What a model says to each kind of request. */
export const conversations = {
  required: (client, model) => bothWays(client, { model, ...most, messages: asked("What is the weather in Zurich in celsius?"), tools: [WEATHER, TIME], tool_choice: "required", parallel_tool_calls: false }),
  named: (client, model) => bothWays(client, { model, ...most, messages: asked("What is the weather in Zurich in celsius?"), tools: [WEATHER, TIME], tool_choice: { type: "function", function: { name: "get_time" } } }),
  parallel: (client, model) => bothWays(client, { model, ...most, messages: asked("Call get_weather for Paris in celsius and call get_weather for Rome in celsius."), tools: [WEATHER], tool_choice: "required" }),
  /** The client runs the function, and the model answers with its result. */
  async answered(client, model) {
    const seen = [];
    const runner = client.chat.completions.runTools({
      model, ...most, messages: asked("What is the weather in Zurich in celsius?"),
      tools: [{ type: "function", function: { ...WEATHER.function, parse: JSON.parse, function: (given) => (seen.push(given), "17 degrees, rain") } }],
      tool_choice: "required",
    }, { maxChatCompletions: 1 });
    await runner.done();
    const { choices: [{ message, finish_reason }] } = await client.chat.completions.create({ model, ...most, messages: runner.messages, tools: [WEATHER], tool_choice: "none" });
    return { seen, roles: runner.messages.map(({ role }) => role), text: message.content, finish_reason };
  },
};

export const clientOf = (llm) => new OpenAI({ fetch: llm.fetch, baseURL: "http://localhost/v1", apiKey: "none", dangerouslyAllowBrowser: true, maxRetries: 0 });
