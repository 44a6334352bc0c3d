// The AI SDK over a model in the page: its provider takes `llm.fetch` in place of the global one.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";
import { Llm, type LoadOptions } from "embergram";

export async function main(options: LoadOptions, log: (line: string) => void = console.log): Promise<void> {
  const llm = await Llm.load(options);
  const provider = createOpenAICompatible({ name: "embergram", baseURL: "http://localhost/v1", fetch: llm.fetch, includeUsage: true });
  const { textStream, usage } = streamText({ model: provider(llm.model.name), prompt: "Where is the river?", maxOutputTokens: 32 });
  let text = "";
  for await (const part of textStream) text += part;
  log(text);
  log(`${(await usage).outputTokens} tokens`);
  await llm.unload();
}
