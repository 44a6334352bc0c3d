// Does speculation pay? The acceptance rate, since the load and of one request alone.
import { Llm, speculationStats, type LoadOptions } from "embergram";

export async function main(options: LoadOptions, log: (line: string) => void = console.log): Promise<void> {
  const llm = await Llm.load({
    speculative_config: { method: "ngram", num_speculative_tokens: 3, prompt_lookup_max: 3, prompt_lookup_min: 1 },
    ...options,
  });
  const params = { max_tokens: 64, temperature: 0 };

  await llm.generate("The capital of France is", params);
  const before = await llm.getMetrics();
  const [output] = await llm.generate("Say it again and again: the light of the world, the light of the", params);
  const after = await llm.getMetrics();

  const stats = speculationStats(after)!;
  log(`drafts: ${stats.num_drafts}`);
  log(`draft tokens: ${stats.num_draft_tokens}`);
  log(`accepted tokens: ${stats.num_accepted_tokens}`);
  log(`acceptance rate: ${(100 * stats.acceptance_rate).toFixed(1)} %`);
  log(`mean acceptance length: ${stats.mean_acceptance_length.toFixed(2)}`);

  // Between two snapshots, or from the request itself: the same numbers.
  const second = speculationStats(after, before)!;
  log(`second prompt: ${second.num_accepted_tokens} of ${second.num_draft_tokens} accepted`);
  const own = output!.metrics!.speculative_decoding!;
  log(`by its own account: ${own.num_accepted_draft_tokens} of ${own.num_draft_tokens} accepted`);
  await llm.unload();
}
