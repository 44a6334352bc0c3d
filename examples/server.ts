// One program for a model in the page and for a server: vLLM, or `npx embergram serve`.
import { Llm, speculationStats, type LoadOptions } from "embergram";

export async function main(
  options: LoadOptions,
  log: (line: string) => void = console.log,
  server = "http://localhost:8000",
): Promise<void> {
  for (const llm of [await Llm.load({ ...options, fallback: server }), await Llm.connect(server)]) {
    log(`${llm.model.name} on ${llm.model.adapter.name}`);
    let text = "";
    const messages = [{ role: "user", content: "Where is the river? Where is the river?" }];
    for await (const delta of llm.chatStream(messages, { max_tokens: 32, temperature: 0 })) text += delta.text;
    log(text);
    const stats = speculationStats(await llm.getMetrics());
    log(stats ? `acceptance rate: ${(100 * stats.acceptance_rate).toFixed(1)} %` : "no speculation");
    await llm.unload();
  }
}
