// Whether speculation pays: the same texts under several settings, by the steps they take and by the clock.
import { spawnSync } from "node:child_process";
import { root } from "../scripts/setup.mjs";
import { ngram } from "../scripts/speculation.mjs";

export const DEPTHS = [0, 3, 5, 7, "auto"];
/** Draft tokens that make a step of eight rows, the most that one tile takes. */
const MOST = 7;
const configs = DEPTHS.map((k) => (k === "auto" ? { ...ngram(k), max_speculative_tokens: MOST } : ngram(k)));

/** Runs in the page: what the prompts generate, together and without speculation, as token ids. */
async function generateTexts({ model, backend, prompts, tokens }) {
  const { Llm } = globalThis.embergram;
  const llm = await Llm.load({ model, ...backend, cache: false, max_model_len: 2048, max_num_seqs: 8 });
  const outputs = await llm.generate(prompts, { temperature: 0, max_tokens: tokens, ignore_eos: true });
  await llm.unload();
  return outputs.map((o) => ({ prompt_token_ids: o.prompt_token_ids, output_token_ids: o.outputs[0].token_ids }));
}

/** Runs in the page: one text after another under each setting, the settings taking turns. */
async function timeTexts({ model, backend, texts, tokens, configs, rounds }) {
  const { Llm, speculationStats } = globalThis.embergram;
  const llm = await Llm.load({ model, ...backend, cache: false, max_model_len: 2048, max_num_seqs: 1 });
  const params = { temperature: 0, max_tokens: tokens, ignore_eos: true };
  const results = configs.map(() => ({ seconds: [], num_draft_tokens: 0, num_accepted_tokens: 0 }));
  // All find the prompts in the prefix cache; how long a prefill takes is not compared.
  for (const { prompt_token_ids } of texts) await llm.generate([prompt_token_ids], { ...params, max_tokens: 1 });
  for (let round = 0; round < rounds; round++) {
    for (const [i, config] of configs.entries()) {
      await llm.setSpeculativeConfig(config);
      const before = await llm.getMetrics();
      let seconds = 0;
      for (const { prompt_token_ids, output_token_ids } of texts) {
        const [{ outputs: [output], metrics }] = await llm.generate([prompt_token_ids], params);
        seconds += metrics.decode_time;
        if (String(output.token_ids) !== String(output_token_ids.slice(0, tokens))) {
          throw new Error(`${JSON.stringify(config)} changed the tokens: ${output.token_ids} where ${output_token_ids}`);
        }
      }
      results[i].seconds.push(seconds);
      // Null until something was speculated with.
      const { num_draft_tokens, num_accepted_tokens } = speculationStats(await llm.getMetrics(), before) ?? results[i];
      Object.assign(results[i], { num_draft_tokens, num_accepted_tokens });
    }
  }
  await llm.unload();
  return results;
}

/** What the settings cost for these texts, from the steps they take and what a step costs: the same in each run. */
function replay(texts, max_tokens, costs) {
  const args = ["run", "--quiet", "--locked", "-p", "embergram", "--features", "reference", "--example", "replay"];
  const input = JSON.stringify({ costs, max_tokens, texts, configs });
  const { status, stdout } = spawnSync("cargo", args, { cwd: root, input, stdio: ["pipe", "pipe", "inherit"], maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error("cargo run --example replay failed; what it said stands above");
  return JSON.parse(stdout);
}

/** The middle one. */
export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/**
 * A workload under every setting.
 * @param page with the package in it
 * @param {{ model: string, backend: object, prompts: string[], tokens: number, timed: number, rounds: number, costs: [number, number][] }}
 *   options `backend`: options of a load; `timed`: how many of the prompts are run by the clock; `costs`: rows and what a step of them costs.
 * @returns for each setting its modelled cost over all prompts and its seconds over the timed ones, both also relative to
 *   no speculation; the texts; and what `auto` reaches of the best fixed depth.
 */
export async function speculation(page, { model, backend, prompts, tokens, timed, rounds, costs }) {
  // What would have come behind the end decides how the last draft is counted.
  const texts = await page.evaluate(generateTexts, { model, backend, prompts, tokens: tokens + MOST + 1 });
  const modelled = replay(texts, tokens, costs);
  const chosen = texts.slice(0, timed);
  const times = timed > 0 ? await page.evaluate(timeTexts, { model, backend, texts: chosen, tokens, configs, rounds }) : [];
  if (timed > 0) {
    for (const [i, { replay: expected }] of replay(chosen, tokens, costs).entries()) {
      if (configs[i]?.num_speculative_tokens === "auto") continue;
      for (const name of ["num_draft_tokens", "num_accepted_tokens"]) {
        if (times[i][name] !== expected[name]) throw new Error(`K = ${DEPTHS[i]}: ${name} is ${times[i][name]}, replayed ${expected[name]}`);
      }
    }
  }
  const settings = modelled.map(({ steps, cost, replay }, i) => ({
    num_speculative_tokens: DEPTHS[i], steps, ...replay, modelled_cost: cost, modelled_ratio: cost / modelled[0].cost,
    ...(timed > 0 && {
      seconds: median(times[i].seconds), seconds_by_round: times[i].seconds,
      seconds_ratio: median(times[i].seconds.map((s, round) => s / times[0].seconds[round])),
      tokens_per_second: (chosen.length * (tokens - 1)) / median(times[i].seconds),
    }),
  }));
  const fixed = settings.filter((s) => s.num_speculative_tokens !== "auto");
  const best = fixed.reduce((a, b) => (b.modelled_cost < a.modelled_cost ? b : a));
  const auto = settings.find((s) => s.num_speculative_tokens === "auto");
  return { settings, best_fixed: best.num_speculative_tokens, auto_of_best: best.modelled_cost / auto.modelled_cost, texts };
}
