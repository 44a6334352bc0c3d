// How fast, in headless Chromium: npm run bench -- [options]. Tables on stderr, the figures as JSON on stdout.
import { basename, resolve } from "node:path";
import { parseArgs } from "node:util";
import { backendHelp, BACKEND_OPTIONS, backendOf, ranOn } from "./backend.mjs";
import { packages } from "./setup.mjs";

const HELP = `npm run bench -- [options]

  --model FILE      a GGUF file; default SmolLM2-135M-Instruct
  --steps N         decoding steps to time for each number of rows; default 24
  --workloads LIST  of rename, copy, story; default all; none leaves the part out
  --prompts N       prompts of each workload, of ten; default 10
  --tokens N        tokens of each prompt; default 128
  --timed N         prompts of each workload to run by the clock; default all; 0 counts steps only
  --rounds N        rounds by the clock; default 5
  --peer            beside wllama instead: prompt and decoding, the same file in the same browser, in turn
  --ahead           beside itself without async_scheduling, each read-back taking longer by the --delays
  --delays LIST     milliseconds; default 0,100
  --dev             build the engine without optimising it
${backendHelp(18)}
Each workload is generated once; from its tokens follow the steps that every setting of speculation takes, and with the cost
of a step by its rows the modelled cost. The clock runs over the timed prompts in all rounds, the settings taking turns.
--peer fetches wllama through npm; it takes --model (more than once), --tokens (default 64), --rounds, --precision and --threads
(such as 1,2). --ahead takes --model, --tokens (default 64) and --rounds.
`;

const ROWS = [1, 2, 4, 6, 8, 16];

function table(rows) {
  const widths = rows[0].map((_, c) => Math.max(...rows.map((row) => String(row[c]).length)));
  console.error(rows.map((row) => row.map((cell, c) => String(cell).padStart(widths[c])).join("  ")).join("\n") + "\n");
}

function engineTable(engine, costs) {
  table([
    ["load s", "prompt tok/s", "decode tok/s", "dispatches/step", "read-back B/step", ...ROWS.map((r) => `c(${r})/c(1)`)],
    [
      engine.load_seconds.toFixed(1), engine.prompt_tokens_per_second.toFixed(1), engine.decode_tokens_per_second.toFixed(2),
      engine.dispatches_per_step.toFixed(0), engine.readback_bytes_per_step.toFixed(0), ...costs.map(([, c]) => c.toFixed(2)),
    ],
  ]);
}

function speculationTable({ settings, best_fixed, auto_of_best }) {
  const spread = ({ seconds, seconds_by_round: all }) => `${((100 * (Math.max(...all) - Math.min(...all))) / seconds).toFixed(0)}%`;
  const timed = settings[0].seconds !== undefined;
  table([
    ["K", "steps", "drafted", "accepted", "modelled cost vs K=0", ...(timed ? ["time vs K=0", "tok/s", "spread"] : [])],
    ...settings.map((s) => [
      s.num_speculative_tokens, s.steps, s.num_draft_tokens, s.num_accepted_tokens, s.modelled_ratio.toFixed(3),
      ...(timed ? [s.seconds_ratio.toFixed(3), s.tokens_per_second.toFixed(2), spread(s)] : []),
    ]),
  ]);
  console.error(`auto reaches ${auto_of_best.toFixed(3)} of the best fixed K, ${best_fixed}, in modelled cost\n`);
}

/** Each file with 1 and 2 threads, or those that are asked for, beside the peer. */
async function peers(files, { threads = "1,2", tokens = "64", rounds, backend = "cpu", precision }, openPackage) {
  const { PROMPT, peerPackage, turns } = await import("../bench/peer.mjs");
  const { median } = await import("../bench/speculation.mjs");
  const { name, folder } = peerPackage();
  const counts = threads.split(",").map((count) => backendOf({ threads: count }).threads);
  const places = Object.fromEntries(files.map((file, i) => [`/${i}.gguf`, file]));
  const browser = await openPackage({ places: { ...places, "/peer/": folder }, fresh: true });
  const all = [];
  try {
    for (const [i, file] of files.entries()) {
      for (const count of counts) {
        const { ran, results } = await browser.page.evaluate(turns, {
          model: `/${i}.gguf`, options: backendOf({ backend, precision }), prompt: PROMPT, tokens: Number(tokens), threads: count, rounds: Number(rounds),
        });
        const [ours, theirs] = results.map((turns) => ({
          prompt_tokens: turns[0].prompt_tokens, tokens: turns[0].tokens, text: turns[0].text,
          prompt_tokens_per_second: median(turns.map((t) => t.prompt)), decode_tokens_per_second: median(turns.map((t) => t.decode)), turns,
        }));
        all.push({ model: basename(file), threads: count, embergram: { ...ran[0], ...ours }, [name]: { ...ran[1], ...theirs } });
        console.error(`\n${basename(file)}: ${ours.prompt_tokens} and ${theirs.prompt_tokens} tokens of prompt, ${ours.tokens} and ${theirs.tokens} out; medians of ${rounds}`);
        const line = (who, on, r) => [who, on.load_seconds.toFixed(1), r.prompt_tokens_per_second.toFixed(1), r.decode_tokens_per_second.toFixed(2), ` ${ranOn(on)}`];
        const ratio = (what) => (ours[what] / theirs[what]).toFixed(2);
        table([
          ["", "load s", "prompt tok/s", "decode tok/s", " ran on"],
          line("Embergram", ran[0], ours), line(name, ran[1], theirs),
          ["ratio", (ran[0].load_seconds / ran[1].load_seconds).toFixed(2), ratio("prompt_tokens_per_second"), ratio("decode_tokens_per_second"), ""],
        ]);
      }
    }
  } finally {
    await browser.close();
  }
  console.log(JSON.stringify(all));
}

/** With and without running ahead, by turns. */
async function ahead(file, { delays, tokens = "64", rounds }, openPackage) {
  const { aheadFigures } = await import("../bench/ahead.mjs");
  const { median } = await import("../bench/speculation.mjs");
  const browser = await openPackage({ places: { "/model.gguf": file } });
  try {
    const options = { model: "/model.gguf", delays: delays.split(",").map(Number), tokens: Number(tokens), rounds: Number(rounds) };
    const { adapter, results } = await browser.page.evaluate(aheadFigures, options);
    console.error(`\n${basename(file)} on ${ranOn(adapter)}: tokens/s, medians of ${rounds}`);
    table([
      ["delay ms", "waiting", "running ahead", "ratio"],
      ...results.map(({ delay, tokens_per_second: { false: without, true: with_ } }) => {
        const [a, b] = [median(without), median(with_)];
        return [delay, a.toFixed(1), b.toFixed(1), (b / a).toFixed(2)];
      }),
    ]);
    console.log(JSON.stringify({ adapter, results }));
  } finally {
    await browser.close();
  }
}

async function main() {
  const text = { type: "string" };
  const { values } = parseArgs({
    options: {
      model: { ...text, multiple: true }, steps: { ...text, default: "24" }, prompts: { ...text, default: "10" }, tokens: text,
      timed: text, rounds: { ...text, default: "5" }, workloads: { ...text, default: "rename,copy,story" }, dev: { type: "boolean" },
      peer: { type: "boolean" }, ahead: { type: "boolean" }, delays: { ...text, default: "0,100" }, help: { type: "boolean" }, ...BACKEND_OPTIONS,
    },
  });
  if (values.help) return console.log(HELP);
  packages();
  const setup = await import("./setup.mjs");
  const { ensureBuilt, sizes } = await import("./build.mjs");
  const { openPackage } = await import("./browser.mjs");
  const { workloads } = await import("../bench/workloads.mjs");
  const { engineFigures } = await import("../bench/engine.mjs");
  const { speculation } = await import("../bench/speculation.mjs");
  const files = (values.model ?? [await setup.model()]).map((file) => resolve(file));
  if (values.peer) {
    await ensureBuilt(values);
    return peers(files, values, openPackage);
  }
  if (values.ahead) {
    await ensureBuilt(values);
    return ahead(files[0], values, openPackage);
  }
  const chosen = values.workloads === "none" ? [] : values.workloads.split(",");
  const all = workloads();
  for (const name of chosen) {
    if (!all[name]) throw new Error(`--workloads has '${name}'; there are ${Object.keys(all).join(", ")}`);
  }
  const backend = backendOf(values);
  await ensureBuilt(values);
  const [file] = files;
  const browser = await openPackage({ places: { "/model.gguf": file }, fresh: true });
  try {
    const { page } = browser;
    const model = "/model.gguf";
    const engine = await page.evaluate(engineFigures, { model, backend, rows: ROWS, steps: Number(values.steps) });
    const costs = ROWS.map((rows) => [rows, engine.step_seconds[rows] / engine.step_seconds[1]]);
    console.error(`\n${basename(file)} on ${ranOn(engine.model.adapter)}`);
    engineTable(engine, costs);
    const speculative = {};
    const [tokens, rounds] = [Number(values.tokens ?? 128), Number(values.rounds)];
    for (const name of chosen) {
      const prompts = all[name].slice(0, Number(values.prompts));
      const timed = Math.min(prompts.length, Number(values.timed ?? prompts.length));
      console.error(`${name}: ${prompts.length} prompts, ${tokens} tokens each; by the clock ${timed} of them, medians of ${rounds} rounds`);
      speculative[name] = await speculation(page, { model, backend, prompts, tokens, timed, rounds, costs });
      speculationTable(speculative[name]);
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
