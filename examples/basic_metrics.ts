// Generates with n-gram speculation and prints all metrics, as vLLM's LLM.get_metrics() has them.
import { Llm, type LoadOptions } from "embergram";

export async function main(options: LoadOptions, log: (line: string) => void = console.log): Promise<void> {
  const llm = await Llm.load({
    speculative_config: { method: "ngram", num_speculative_tokens: 5, prompt_lookup_max: 4, prompt_lookup_min: 2 },
    ...options,
  });
  const prompts = ["Explain quantum computing:", "Once upon a time, there was a house by the river. The house"];
  const outputs = await llm.generate(prompts, { max_tokens: 100, temperature: 0 });
  for (const { prompt, outputs: [output] } of outputs) log(`${prompt} -> ${output!.text}`);

  for (const metric of await llm.getMetrics()) {
    switch (metric.type) {
      case "counter":
      case "gauge":
        log(`${metric.name} = ${metric.value}`);
        break;
      case "vector":
        log(`${metric.name} = [${metric.values.join(", ")}]`);
        break;
      case "histogram":
        log(`${metric.name}: count ${metric.count}, sum ${metric.sum.toFixed(3)}`);
        break;
    }
  }
  await llm.unload();
}
