// How fast, in headless Chromium: npm run bench -- [options]. A table on stderr, the figures as JSON on stdout.
import { basename, resolve } from "node:path";
import { parseArgs } from "node:util";
import { packages } from "./setup.mjs";
import { ngram } from "./speculation.mjs";

const HELP = `npm run bench -- [options]

  --model FILE      a GGUF file; default SmolLM2-135M-Instruct
  --steps N         decoding steps to time for each number of rows; default 24
  --prompts N       prompts of each workload, of ten; default 10
  --tokens N        tokens of each prompt; default 128
  --rounds N        rounds of the speculation settings; default 5
  --workloads LIST  of rename, copy, story; default all; none leaves the part out
  --dev             build the engine without optimising it
`;

const ROWS = [1, 2, 4, 6, 8, 16];
const DEPTHS = [0, 3, 5, 7, "auto"];

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/** Runs in the page: the engine's own figures. */
async function engineFigures({ model, rows, steps }) {
  const { Llm } = globalThis.embergram;
  const begin = performance.now();
  const llm = await Llm.load({ model, cache: false, max_model_len: 2048, max_num_seqs: Math.max(...rows) });
  const load_seconds = (performance.now() - begin) / 1e3;
  const params = { temperature: 0, ignore_eos: true };
  const words = (n, salt) => Array.from({ length: n }, (_, i) => 300 + ((i * 7919 + salt * 104729) % 400));
  const figure = async (name) => (await llm.getMetrics()).find((metric) => metric.name === name);
  const batch = (count) => Array.from({ length: count }, (_, i) => words(4, i));
  // The first use of a kernel waits for its compilation.
  for (const count of rows) await llm.generate(batch(count), { ...params, max_tokens: 3 });

  const prompt = words(256, 99);
  const [{ metrics }] = await llm.generate([prompt], { ...params, max_tokens: 1 });
  const step_seconds = {};
  const half = Math.ceil(steps / 2);
  const samples = Object.fromEntries(rows.map((count) => [count, []]));
  // There and back, so that a machine that slows down does so for all.
  for (const count of [...rows, ...[...rows].reverse()]) {
    const outputs = await llm.generate(batch(count), { ...params, max_tokens: half + 1 });
    samples[count].push(...outputs.map(({ metrics: m }) => m.decode_time / half));
  }
  for (const count of rows) step_seconds[count] = samples[count].reduce((a, b) => a + b) / samples[count].length;

  const before = await figure("embergram:readback_bytes");
  const stepsBefore = await figure("embergram:rows_per_step");
  await llm.generate([words(4, 5)], { ...params, max_tokens: 8 });
  const bytes = (await figure("embergram:readback_bytes")).value - before.value;
  const counted = (await figure("embergram:rows_per_step")).count - stepsBefore.count;
  const dispatches = await figure("embergram:dispatches_per_step");
  const result = {
    model: llm.model, load_seconds, prompt_tokens_per_second: prompt.length / metrics.prefill_time,
    decode_tokens_per_second: 1 / step_seconds[rows[0]], step_seconds,
    dispatches_per_step: dispatches.sum / dispatches.count, readback_bytes_per_step: bytes / counted,
    gpu_memory_bytes: (await figure("embergram:gpu_memory_bytes")).value,
    wasm_heap_bytes: (await figure("embergram:wasm_heap_bytes")).value,
  };
  await llm.unload();
  return result;
}

/** Runs in the page: one workload under all settings, one prompt after another, settings taking turns. */
async function speculation({ model, prompts, configs, tokens, rounds, rows }) {
  const { Llm } = globalThis.embergram;
  const llm = await Llm.load({ model, cache: false, max_model_len: 2048, max_num_seqs: 1 });
  const params = { temperature: 0, max_tokens: tokens, ignore_eos: true };
  const stepsByRows = (metrics) => {
    const { buckets } = metrics.find((m) => m.name === "embergram:rows_per_step");
    return Object.entries(buckets).map(([bound, count]) => [Number(bound), count]).sort(([a], [b]) => a - b);
  };
  const counter = (metrics, name) => metrics.find((m) => m.name === name)?.value ?? 0;
  const results = configs.map(() => ({ seconds: [], steps: 0, rows: {}, drafted: 0, accepted: 0 }));
  let first;
  // Everyone finds the prompts in the prefix cache; how long a prefill takes is not compared.
  for (const prompt of prompts) await llm.generate([prompt], { ...params, max_tokens: 1 });
  for (let round = 0; round < rounds; round++) {
    for (const [i, config] of configs.entries()) {
      await llm.setSpeculativeConfig(config);
      const before = await llm.getMetrics();
      let seconds = 0;
      const ids = [];
      for (const prompt of prompts) {
        const [output] = await llm.generate([prompt], params);
        seconds += output.metrics.decode_time;
        ids.push(output.outputs[0].token_ids);
      }
      first ??= JSON.stringify(ids);
      if (JSON.stringify(ids) !== first) throw new Error(`setting ${JSON.stringify(config)} changed the tokens`);
      const after = await llm.getMetrics();
      const result = results[i];
      result.seconds.push(seconds);
      // Buckets are cumulative; what matters is how many steps had how many rows.
      const [was, is] = [stepsByRows(before), stepsByRows(after)];
      let below = 0;
      result.rows = {};
      for (const [k, [bound, count]] of is.entries()) {
        const upTo = count - was[k][1];
        if (upTo > below && bound <= Math.max(...rows)) result.rows[bound] = upTo - below;
        below = upTo;
      }
      result.steps = below;
      result.drafted = counter(after, "vllm:spec_decode_num_draft_tokens") - counter(before, "vllm:spec_decode_num_draft_tokens");
      result.accepted = counter(after, "vllm:spec_decode_num_accepted_tokens") - counter(before, "vllm:spec_decode_num_accepted_tokens");
    }
  }
  await llm.unload();
  return results;
}

function table(rows) {
  const widths = rows[0].map((_, c) => Math.max(...rows.map((row) => String(row[c]).length)));
  console.error(rows.map((row) => row.map((cell, c) => String(cell).padStart(widths[c])).join("  ")).join("\n") + "\n");
}

async function main() {
  const text = { type: "string" };
  const { values } = parseArgs({
    options: {
      model: text, steps: { ...text, default: "24" }, prompts: { ...text, default: "10" }, tokens: { ...text, default: "128" },
      rounds: { ...text, default: "5" }, workloads: { ...text, default: "rename,copy,story" }, dev: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help) return console.log(HELP);
  packages();
  const setup = await import("./setup.mjs");
  const { ensureBuilt, sizes } = await import("./build.mjs");
  const { openPackage } = await import("./browser.mjs");
  const { workloads } = await import("../bench/workloads.mjs");
  await ensureBuilt(values);
  const file = resolve(values.model ?? (await setup.model()));
  const browser = await openPackage({ places: { "/model.gguf": file } });
  try {
    const { page } = browser;
    const engine = await page.evaluate(engineFigures, { model: "/model.gguf", rows: ROWS, steps: Number(values.steps) });
    const cost = (rows) => engine.step_seconds[rows] / engine.step_seconds[1];
    console.error(`\n${basename(file)} on ${engine.model.adapter.name}${engine.model.adapter.software ? " (software)" : ""}`);
    table([
      ["load s", "prompt tok/s", "decode tok/s", "dispatches/step", "read-back B/step", ...ROWS.map((r) => `c(${r})/c(1)`)],
      [
        engine.load_seconds.toFixed(1), engine.prompt_tokens_per_second.toFixed(1), engine.decode_tokens_per_second.toFixed(2),
        engine.dispatches_per_step.toFixed(0), engine.readback_bytes_per_step.toFixed(0), ...ROWS.map((r) => cost(r).toFixed(2)),
      ],
    ]);
    const speculative = {};
    const chosen = values.workloads === "none" ? [] : values.workloads.split(",");
    for (const name of chosen) {
      const all = workloads()[name];
      if (!all) throw new Error(`--workloads has '${name}'; there are ${Object.keys(workloads()).join(", ")}`);
      const results = await page.evaluate(speculation, {
        model: "/model.gguf", prompts: all.slice(0, Number(values.prompts)), configs: DEPTHS.map((k) => ngram(k)), tokens: Number(values.tokens),
        rounds: Number(values.rounds), rows: ROWS,
      });
      const seconds = results.map((r) => median(r.seconds));
      const modelled = results.map((r) => Object.entries(r.rows).reduce((sum, [rows, count]) => sum + count * (cost(rows) || cost(16)), 0));
      speculative[name] = results.map((r, i) => ({
        num_speculative_tokens: DEPTHS[i], ...r, seconds: seconds[i], seconds_by_round: r.seconds,
        speedup: seconds[0] / seconds[i], modelled_cost: modelled[i], modelled_speedup: modelled[0] / modelled[i],
      }));
      console.error(`${name}: ${values.prompts} prompts, ${values.tokens} tokens each, ${values.rounds} rounds, medians (spread)`);
      table([
        ["K", "steps", "drafted", "accepted", "tok/s", "spread", "time vs K=0", "modelled cost vs K=0"],
        ...speculative[name].map((r) => [
          r.num_speculative_tokens, r.steps, r.drafted, r.accepted,
          ((Number(values.tokens) - 1) * Math.min(all.length, Number(values.prompts)) / r.seconds).toFixed(2),
          `${((100 * (Math.max(...r.seconds_by_round) - Math.min(...r.seconds_by_round))) / r.seconds).toFixed(0)}%`,
          (1 / r.speedup).toFixed(2), (1 / r.modelled_speedup).toFixed(2),
        ]),
      ]);
    }
    console.log(JSON.stringify({ engine, sizes: sizes(), speculative }));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
});
