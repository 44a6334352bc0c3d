// The built package in a real Chromium, with the models that `npm test` names beside it.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { openPackage } from "../../scripts/browser.mjs";
import { root } from "../../scripts/setup.mjs";

/**
 * Opens a page with `globalThis.embergram`; the models are `/model.gguf` (SmolLM2), `/tiny.gguf`, `/qwen2.gguf`, `/gemma3.gguf`.
 * Without isolation the CPU backend has one thread: two test files run at a time.
 */
export function open({ places = {}, isolated = false, ...options } = {}) {
  const { EMBERGRAM_MODEL, EMBERGRAM_TINY_MODEL, EMBERGRAM_QWEN2, EMBERGRAM_GEMMA3 } = process.env;
  const models = {
    "/model.gguf": EMBERGRAM_MODEL, "/tiny.gguf": EMBERGRAM_TINY_MODEL, "/qwen2.gguf": EMBERGRAM_QWEN2, "/gemma3.gguf": EMBERGRAM_GEMMA3,
  };
  return openPackage({ places: { ...models, ...places }, isolated, ...options });
}

/** vLLM's recordings with prompts and token ids, by file name, and the model that they are of. */
export function recordings() {
  const folder = process.env.EMBERGRAM_GOLDEN ?? join(root, "tests/golden");
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .map((name) => ({ name, ...JSON.parse(readFileSync(join(folder, name), "utf8")) }))
    .filter(({ runs }) => runs)
    .map((recording) => ({ ...recording, model: /qwen2|gemma3/.exec(recording.name)?.[0] ?? "model" }));
}

/**
 * For `page.evaluate`: `settled`, which tells what a promise gave, or how it was refused; and `randomFrom`, which gives for a seed
 * a function that gives numbers below its argument.
 */
export function helpers() {
  globalThis.settled = (promise) =>
    promise.then((value) => ({ value }), ({ name, code, message }) => ({ error: { name, code, message } }));
  // mulberry32
  globalThis.randomFrom = (state) => (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}
