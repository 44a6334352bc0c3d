/** `embergram generate`. */
import { text as allOf } from "node:stream/consumers";
import { harmless, printable } from "../../../../scripts/terminal.mjs";
import type { ChatMessage } from "../index.js";
import { acceptance, load, paramsOf, ratesOf, summary } from "./load.js";
import { UsageError, type Arguments } from "./options.js";

export async function generate(given: Arguments): Promise<void> {
  const prompt = given.prompt ?? (process.stdin.isTTY ? "" : await allOf(process.stdin));
  if (prompt === "") throw new UsageError('give a prompt, for example: embergram generate model.gguf "Once upon a time"');
  const llm = await load(given);
  try {
    const params = paramsOf(given, llm.model, 256);
    const stream = given.chat ? llm.chatStream(conversation(given.system, prompt), params) : llm.stream(prompt, params);
    for (;;) {
      const next = await stream.next();
      if (!next.done && !given.json) process.stdout.write(printable(next.value.text));
      if (!next.done) continue;
      const { value: output } = next;
      const rates = ratesOf(output.metrics!);
      if (given.json) {
        const { name, adapter } = llm.model;
        const told = { model: name, adapter, output, ...rates, speculative_decoding: await acceptance(llm), metrics: await llm.getMetrics() };
        return void console.log(harmless(JSON.stringify(told)));
      }
      console.log();
      return void console.error(`[done] ${await summary(llm, rates)}`);
    }
  } finally {
    await llm.unload();
  }
}

/** A conversation's beginning. */
export function conversation(system: string | undefined, content: string): ChatMessage[] {
  return [...(system === undefined ? [] : [{ role: "system", content: system }]), { role: "user", content }];
}
