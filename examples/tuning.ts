// Compares speculation settings over the same prompts. The model is loaded once, and the tokens are the same under each.
import { formatTuneTable, Llm, type LoadOptions, type SpeculativeConfig, type TuneResult } from "embergram";

export async function main(options: LoadOptions, log: (line: string) => void = console.log): Promise<TuneResult> {
  const llm = await Llm.load(options);
  const prompts = ["the light of the world, the light of the", "Once upon a time, there was a house by the river."];
  const depths = [3, 5, 7].map((num_speculative_tokens): SpeculativeConfig => ({
    method: "ngram", num_speculative_tokens, prompt_lookup_max: 4, prompt_lookup_min: 2,
  }));

  const result = await llm.tune(prompts, [null, ...depths], { max_tokens: 64, temperature: 0 }, {
    rounds: 3,
    onProgress: ({ done, total, label }) => log(label ? `${done + 1} of ${total}: ${label}` : "done"),
  });
  for (const line of formatTuneTable(result).split("\n")) log(line);

  await llm.setSpeculativeConfig(result.recommendation);
  await llm.unload();
  return result;
}
