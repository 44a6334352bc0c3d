/** `embergram chat`: line by line, each with all that was said before. */
import { createInterface } from "node:readline";
import { printable } from "../../../../scripts/terminal.mjs";
import { EmbergramError, type ChatMessage, type Llm, type SamplingParams } from "../index.js";
import { load, paramsOf } from "./load.js";
import type { Arguments } from "./options.js";

const WORDS = "/clear begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer";

export async function chat(given: Arguments): Promise<void> {
  const llm = await load(given);
  const params = paramsOf(given, llm.model, 256);
  const system: ChatMessage[] = given.system === undefined ? [] : [{ role: "system", content: given.system }];
  let said = [...system];
  console.error(printable(`${llm.model.name} on ${llm.model.adapter.name}; ${WORDS}`));
  const lines = createInterface({ input: process.stdin, output: process.stdin.isTTY ? process.stdout : undefined, prompt: "> " });
  let stop: AbortController | undefined;
  lines.on("SIGINT", () => (stop ? stop.abort() : lines.close()));
  try {
    lines.prompt();
    for await (const line of lines) {
      if (line === "/exit") break;
      if (line === "/clear") said = [...system];
      else if (line.trim() !== "") {
        stop = new AbortController();
        said = await answered(llm, [...said, { role: "user", content: line }], params, stop.signal);
        stop = undefined;
      }
      lines.prompt();
    }
  } finally {
    lines.close();
    await llm.unload();
  }
}

/** The conversation with its answer, which is shown as it comes; without the last message where that has none. */
async function answered(llm: Llm, said: ChatMessage[], params: SamplingParams, signal: AbortSignal): Promise<ChatMessage[]> {
  let content = "";
  try {
    for await (const { text } of llm.chatStream(said, params, { signal })) {
      content += text;
      process.stdout.write(printable(text));
    }
  } catch (error) {
    if (!(error instanceof EmbergramError) || ["internal", "device_lost"].includes(error.code)) throw error;
    if (error.code !== "aborted") {
      console.error(printable(`${error.code}: ${error.message}`));
      return said.slice(0, -1);
    }
  }
  console.log();
  return [...said, { role: "assistant", content }];
}
