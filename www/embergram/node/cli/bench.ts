/** `embergram bench`: how fast a model reads a prompt and writes, without a cache of earlier prompts. */
import { harmless, printable } from "../../../../scripts/terminal.mjs";
import type { Llm } from "../index.js";
import { acceptance, load, ratesOf, summary, type Rates } from "./load.js";
import type { Arguments } from "./options.js";

/** A text that repeats itself, so that speculation has something to find. */
const TEXT = "The river runs past the mill, the mill grinds the corn, and the baker bakes the bread. ";

export async function bench(given: Arguments): Promise<void> {
  const begin = performance.now();
  const llm = await load({ ...given, load: { ...given.load, enable_prefix_caching: false } });
  const load_seconds = (performance.now() - begin) / 1e3;
  try {
    const prompt = await promptOf(llm, given.promptTokens);
    const params = { temperature: 0, ignore_eos: true, max_tokens: 64, ...given.sampling };
    const runs: Rates[] = [];
    for (let i = 0; i < given.repeat; i++) {
      const [output] = await llm.generate([prompt], params);
      runs.push(ratesOf(output!.metrics!));
    }
    const rates = {
      prompt_tokens_per_second: median(runs.map((run) => run.prompt_tokens_per_second)),
      decode_tokens_per_second: median(runs.map((run) => run.decode_tokens_per_second)),
    };
    const { name, adapter } = llm.model;
    if (given.json) {
      const told = { model: name, adapter, prompt_tokens: prompt.length, max_tokens: params.max_tokens, load_seconds, ...rates, runs, speculative_decoding: await acceptance(llm) };
      return void console.log(harmless(JSON.stringify(told)));
    }
    console.log(printable(`${name}: ${await summary(llm, rates)}; load ${load_seconds.toFixed(2)} s`));
    console.log(`medians of ${runs.length}; prompt of ${prompt.length} tokens, ${params.max_tokens} tokens written`);
  } finally {
    await llm.unload();
  }
}

async function promptOf(llm: Llm, tokens: number): Promise<number[]> {
  const one = await llm.tokenize(TEXT);
  const ids = await llm.tokenize(TEXT.repeat(Math.ceil((tokens + 1) / Math.max(1, one.length - 1))));
  return ids.slice(0, tokens);
}

function median(values: (number | null)[]): number | null {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? null;
}
