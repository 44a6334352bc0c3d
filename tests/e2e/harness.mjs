// The built package in a real Chromium, with the models that `npm test` names beside it.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { openPackage } from "../../scripts/browser.mjs";
import { root } from "../../scripts/setup.mjs";

/** Opens a page with `globalThis.embergram`; the models are `/model.gguf` (SmolLM2) and `/tiny.gguf`. */
export function open({ places = {}, ...options } = {}) {
  const models = { "/model.gguf": process.env.EMBERGRAM_MODEL, "/tiny.gguf": process.env.EMBERGRAM_TINY_MODEL };
  return openPackage({ places: { ...models, ...places }, ...options });
}

/** vLLM's recordings with prompts and token ids, by file name. */
export function recordings() {
  const folder = process.env.EMBERGRAM_GOLDEN ?? join(root, "tests/golden");
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .map((name) => ({ name, ...JSON.parse(readFileSync(join(folder, name), "utf8")) }))
    .filter(({ runs }) => runs);
}

/** For `page.evaluate`: `settled`, which tells what a promise gave, or how it was refused. */
export function helpers() {
  globalThis.settled = (promise) =>
    promise.then((value) => ({ value }), ({ name, code, message }) => ({ error: { name, code, message } }));
}
