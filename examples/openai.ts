// The calls of OpenAI's client for JavaScript, answered in the page.
import { Llm, type LoadOptions, type OpenAITypes } from "embergram";

export async function main(options: LoadOptions, log: (line: string) => void = console.log): Promise<void> {
  const llm = await Llm.load(options);
  const messages: OpenAITypes.ChatCompletionMessageParam[] = [{ role: "user", content: "Where is the river?" }];

  const answer = await llm.chat.completions.create({ messages, max_tokens: 32, temperature: 0 });
  log(answer.choices[0]!.message.content ?? "");
  log(`${answer.usage.total_tokens} tokens, ${answer.choices[0]!.finish_reason}`);

  messages.push(answer.choices[0]!.message, { role: "user", content: "And the house?" });
  let text = "";
  const stream = await llm.chat.completions.create({
    messages, max_tokens: 32, temperature: 0, stream: true, stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    if (chunk.usage) log(`${text}\n${chunk.usage.completion_tokens} tokens`);
  }
  await llm.unload();
}
