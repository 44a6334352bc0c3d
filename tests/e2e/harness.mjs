// The built package in a page of a real Chromium, with models beside it on a loopback server.
import { join } from "node:path";
import { readFileSync, readdirSync } from "node:fs";
import { launch } from "../../scripts/browser.mjs";
import { dist } from "../../scripts/build.mjs";
import { serve } from "../../scripts/serve.mjs";
import { root } from "../../scripts/setup.mjs";

/** Opens a page in which `globalThis.embergram` is the package, and `/model.gguf`, `/tiny.gguf` the models. */
export async function open({ places = {}, ...options } = {}) {
  const server = await serve({
    "/dist/": dist,
    "/": join(root, "scripts/page"),
    "/model.gguf": process.env.EMBERGRAM_MODEL,
    "/tiny.gguf": process.env.EMBERGRAM_TINY_MODEL,
    ...places,
  });
  const context = await launch(options);
  const page = async () => {
    const page = await context.newPage();
    page.on("pageerror", (error) => console.error(error));
    await page.goto(server.url);
    await page.evaluate(async () => {
      globalThis.embergram = await import("/dist/index.js");
    });
    return page;
  };
  return { server, context, page, close: async () => (await context.close(), await server.close()) };
}

/** vLLM's recordings with prompts and token ids, by file name. */
export function recordings() {
  const folder = process.env.EMBERGRAM_GOLDEN ?? join(root, "tests/golden");
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .map((name) => ({ name, ...JSON.parse(readFileSync(join(folder, name), "utf8")) }))
    .filter(({ runs }) => runs);
}
