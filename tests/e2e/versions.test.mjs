// Files of several versions, as a deployment in parts or a cache that keeps an old one brings them together.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dist } from "../../scripts/build.mjs";
import { root } from "../../scripts/setup.mjs";
import { helpers, open } from "./harness.mjs";

const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const folder = mkdtempSync(join(tmpdir(), "embergram-versions-"));

/** A file of the package as another version has it. */
function other(name) {
  const text = readFileSync(join(dist, name), "utf8");
  const changed = text.replaceAll(`"${version}"`, '"0.0.9"');
  expect(changed).not.toBe(text);
  writeFileSync(join(folder, name), changed);
  return join(folder, name);
}

let browser;
beforeAll(async () => {
  // A module that imports what this version's script does not give.
  const strange = ["\0asm\x01\0\0\0", "\x01\x04\x01\x60\0\0", "\x02\x14\x01\x0e./engine_bg.js\x01f\0\0"];
  writeFileSync(join(folder, "strange.wasm"), strange.join(""), "latin1");
  browser = await open({
    places: {
      ...Object.fromEntries(["index.js", "worker.js", "host.js"].map((name) => [`/old/${name}`, other(name)])),
      "/old/engine_bg.wasm": join(dist, "engine_bg.wasm"), "/old/strange.wasm": join(folder, "strange.wasm"),
    },
  });
  await browser.page.evaluate(helpers);
  await browser.page.addScriptTag({ type: "module", content: 'import * as old from "/old/index.js"; globalThis.old = old;' });
  await browser.page.waitForFunction("globalThis.old");
});
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

const load = (name, options) =>
  browser.page.evaluate(async ([name, options]) => {
    const { Llm } = globalThis[name];
    const { error, value } = await globalThis.settled(Llm.load({ model: "/tiny.gguf", max_model_len: 64, ...options }));
    await value?.unload();
    return error ?? null;
  }, [name, options]);

test.each([
  ["the worker's script", "embergram", { workerUrl: "/old/worker.js" }, [version, "0.0.9", "worker.js"]],
  ["the module", "old", {}, ["0.0.9", version, "engine_bg.wasm"]],
  ["the module, in the caller's context", "old", { worker: false }, ["0.0.9", version, "engine_bg.wasm"]],
  ["a module that cannot say its version", "embergram", { wasmUrl: "/old/strange.wasm" }, [version, "another version", "engine_bg.wasm"]],
])("%s of another version is refused with both versions and what to do", async (_, name, options, words) => {
  const error = await load(name, options);
  expect(error).toMatchObject({ code: "invalid_config" });
  for (const word of [...words, "workerUrl", "docs/packaging.md"]) expect(error.message).toContain(word);
}, 120_000);

test("those of one version load", async () => {
  expect(await load("embergram", {})).toBeNull();
}, 120_000);
