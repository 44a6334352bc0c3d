// Which speculation pays, in headless Chromium: npm run tune -- [options] [prompt ...]
import { basename, resolve } from "node:path";
import { parseArgs } from "node:util";
import { backendHelp, BACKEND_OPTIONS, backendOf, ranOn } from "./backend.mjs";
import { packages } from "./setup.mjs";
import { ngram } from "./speculation.mjs";

const HELP = `npm run tune -- [options] [prompt ...]

Runs the prompts under several speculation settings and says which one to use.

  --model FILE       a GGUF file; default SmolLM2-135M-Instruct
  --depths LIST      numbers of draft tokens; default 0,3,5,7,auto
  --lookup MIN-MAX   lengths of the n-grams to look up; default 2-4
  --max-tokens N     default 64
  --temperature T    default 0
  --rounds N         default 1; more tell noise from gain
${backendHelp(19)}  --json             the result as JSON on stdout and nothing else
  --dev              build the engine without optimising it
`;

const PROMPTS = ["One, two, three, one, two, three, one, two,", "Once upon a time there was"];

async function main() {
  const text = { type: "string" };
  const flag = { type: "boolean", default: false };
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      model: text, depths: { ...text, default: "0,3,5,7,auto" }, lookup: { ...text, default: "2-4" },
      "max-tokens": { ...text, default: "64" }, temperature: { ...text, default: "0" }, rounds: { ...text, default: "1" },
      json: flag, dev: flag, help: flag, ...BACKEND_OPTIONS,
    },
  });
  if (values.help) return console.log(HELP);
  const backend = backendOf(values);
  packages();
  const { ensureBuilt } = await import("./build.mjs");
  const { openPackage } = await import("./browser.mjs");
  const { model } = await import("./setup.mjs");
  await ensureBuilt(values);
  const file = resolve(values.model ?? (await model()));
  const configs = values.depths.split(",").map((depth) => ngram(depth, values.lookup));
  const browser = await openPackage({ places: { "/model.gguf": file } });
  try {
    await browser.page.exposeFunction("onProgress", ({ done, total, label }) => {
      if (label !== null) console.error(`[tune] ${done + 1} of ${total}: ${label}`);
    });
    const { result, formatted, adapter } = await browser.page.evaluate(
      async ({ backend, prompts, configs, params, rounds }) => {
        const { Llm, formatTuneTable } = globalThis.embergram;
        const llm = await Llm.load({ model: "/model.gguf", cache: false, ...backend });
        const result = await llm.tune(prompts, configs, params, { rounds, onProgress: globalThis.onProgress });
        return { result, formatted: formatTuneTable(result), adapter: llm.model.adapter };
      },
      {
        backend, prompts: positionals.length > 0 ? positionals : PROMPTS, configs, rounds: Number(values.rounds),
        params: { max_tokens: Number(values["max-tokens"]), temperature: Number(values.temperature), ignore_eos: true },
      },
    );
    console.log(values.json ? JSON.stringify(result) : `\n${basename(file)} on ${ranOn(adapter)}\n${formatted}`);
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(`tune: ${error.message}`);
  process.exitCode = 1;
});
