// How many draft tokens are worth proposing? Acceptance falls from position to position; where it is low, K is too large.
import { Llm, speculationStats, type LoadOptions } from "embergram";

export async function main(options: LoadOptions, log: (line: string) => void = console.log): Promise<void> {
  const llm = await Llm.load({
    speculative_config: { method: "ngram", num_speculative_tokens: 7, prompt_lookup_max: 3, prompt_lookup_min: 1 },
    ...options,
  });
  const prompts = [
    "the light of the world, the light of the",
    "they have what they would have, and there they have what",
    "When there is time, there is water. When there is",
  ];
  await llm.generate(prompts, { max_tokens: 96, temperature: 0 });

  const { num_drafts, num_accepted_tokens_per_pos, per_position_acceptance_rate } = speculationStats(await llm.getMetrics())!;
  log(`drafts: ${num_drafts}`);
  for (const [position, rate] of per_position_acceptance_rate.entries()) {
    const bar = "#".repeat(Math.round(40 * rate));
    log(`position ${position}: ${String(num_accepted_tokens_per_pos[position]).padStart(4)} ${(100 * rate).toFixed(1).padStart(5)} % ${bar}`);
  }
  await llm.unload();
}
