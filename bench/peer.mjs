// Embergram beside wllama, which is llama.cpp as WebAssembly: the same file, the same prompt, in the same page, taking turns.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cache, run } from "../scripts/setup.mjs";

const PEER = "@wllama/wllama";
const VERSION = "3.13.0";

/** A text of about 180 tokens; nothing in it is repeated. */
export const PROMPT = `The harbour master of a small northern town kept three ledgers. In the first he wrote the names of ships, what they carried and
where they had come from: timber, salted fish, iron nails, once a grand piano. In the second he noted the weather each morning, with a
short remark about gulls. Nobody was ever shown the third, although children said that it listed every promise made on the quay since
the lighthouse was built. One winter a stranger arrived by sledge and asked to read it. She gave no reason, offered no money, and
waited by the stove for two days while snow covered the boats. On the evening of the second day the old man unlocked a drawer, put
on his spectacles, looked at her hands for a long time, and began to speak about`;

/** The folder of its scripts, installed where it is not there. */
export function peerPackage() {
  const place = join(cache, "peer");
  const own = join(place, "node_modules", PEER);
  const there = () => existsSync(join(own, "package.json")) && JSON.parse(readFileSync(join(own, "package.json"), "utf8")).version === VERSION;
  if (!there()) {
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, "package.json"), JSON.stringify({ private: true }));
    run("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", `${PEER}@${VERSION}`], { cwd: place });
  }
  return { name: `wllama ${VERSION}`, folder: join(own, "esm") };
}

/**
 * Runs in the page: both engines with so many threads, `rounds` times in turn.
 * @param {{ model: string, options: object, prompt: string, tokens: number, threads: number, rounds: number }} options `options`: of our load
 * @returns for each what it ran on, and by round the rates of prompt and decoding
 */
export async function turns({ model, options, prompt, tokens, threads, rounds }) {
  const { Wllama } = await import(`${location.origin}/peer/index.js`);
  const { Llm } = globalThis.embergram;
  const file = new File([await (await fetch(model)).blob()], "model.gguf");
  const CONTEXT = 1024;
  const timed = async (load) => {
    const begin = performance.now();
    return [await load(), (performance.now() - begin) / 1e3];
  };
  const [llm, loading] = await timed(() =>
    Llm.load({ model: file, threads, max_model_len: CONTEXT, max_num_seqs: 1, enable_prefix_caching: false, ...options }));
  const peer = new Wllama({ default: `${location.origin}/peer/wasm/wllama.wasm` }, { suppressNativeLog: true });
  // Both say so where something is not kept in f32: the peer's activations are 8 bits wide, and its cache f16.
  const [, peerLoading] = await timed(() => peer.loadModel([file], { n_ctx: CONTEXT, n_threads: threads, n_gpu_layers: 0, n_parallel: 1 }));
  const ours = async (max_tokens) => {
    const [{ prompt_token_ids, outputs: [output], metrics }] = await llm.generate(prompt, { temperature: 0, max_tokens, ignore_eos: true });
    const { length } = output.token_ids;
    return {
      prompt_tokens: prompt_token_ids.length, tokens: length, text: output.text,
      prompt: prompt_token_ids.length / metrics.prefill_time, decode: (length - 1) / metrics.decode_time,
    };
  };
  const theirs = async (max_tokens) => {
    const { choices: [{ text }], timings } = await peer.createCompletion({ prompt, max_tokens, temperature: 0, top_k: 1, ignore_eos: true, cache_prompt: false });
    // The first of the predicted tokens is the prompt's.
    const { prompt_n, prompt_ms, predicted_n, predicted_ms } = timings;
    return { prompt_tokens: prompt_n, tokens: predicted_n, text, prompt: (prompt_n * 1e3) / prompt_ms, decode: ((predicted_n - 1) * 1e3) / predicted_ms };
  };
  await ours(4);
  await theirs(4);
  const results = [[], []];
  for (let round = 0; round < rounds; round++) {
    results[0].push(await ours(tokens));
    results[1].push(await theirs(tokens));
  }
  const ran = [
    { ...llm.model.adapter, load_seconds: loading },
    { backend: "cpu", name: `WebAssembly, ${peer.isMultithread() ? `${peer.getNumThreads()} threads` : "1 thread"}, no GPU layers`, threads: peer.getNumThreads(), load_seconds: peerLoading },
  ];
  await llm.unload();
  await peer.exit();
  return { ran, results };
}
