// What the snippets of the README, of docs/sources.md and of docs/backends.md say is so: all of them, one after another, in one page.
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { transform } from "esbuild";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dist } from "../../scripts/build.mjs";
import { root } from "../../scripts/setup.mjs";
import { hfFolder } from "../support/hf-folder.mjs";
import { serve } from "../support/server.mjs";
import { open } from "./harness.mjs";

const snippetsOf = (page, language = "ts") =>
  [...readFileSync(join(root, page), "utf8").matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, "g"))].map((match) => match[1]);
const snippets = snippetsOf("README.md");
const MODEL = "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
// What the README loads from the hub, which these tests do not reach.
const HUB = '"hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M"';
const CDN = "https://cdn.jsdelivr.net/npm/embergram@";

let browser;
beforeAll(async () => {
  browser = await open({ places: { [MODEL]: process.env.EMBERGRAM_TINY_MODEL } });
});
afterAll(() => browser?.close());

test("the snippets run", async () => {
  expect(snippets.length).toBeGreaterThanOrEqual(7);
  const { code: script } = await transform(snippets.join("\n"), { loader: "ts", format: "esm" });
  const imports = script.match(/^import .*$/gm);
  const code = script.replaceAll(/^import .*$/gm, "").replaceAll(HUB, JSON.stringify(MODEL));
  expect(code).not.toContain("hf:");
  // What the page around the snippets has; the first chat and the completion write into `shown`.
  const content = `
    ${imports.join("\n").replaceAll('"embergram"', '"/dist/index.js"')}
    let shown = "";
    const show = (text) => (shown += text);
    try {
      ${code}
      globalThis.result = { shown, answers: answers.map(({ outputs }) => outputs[0].text), mood, urgent, metrics, told };
    } catch (error) {
      globalThis.result = { error: String(error) };
    }`;
  await browser.page.addScriptTag({ type: "module", content });
  await browser.page.waitForFunction(() => globalThis.result, undefined, { timeout: 300_000 });
  const result = await browser.page.evaluate(() => globalThis.result);
  expect(result.error).toBeUndefined();
  expect(result.shown.length).toBeGreaterThan(20);
  expect(result.answers).toHaveLength(2);
  for (const text of result.answers) expect(text).not.toBe("");
  expect(["happy", "sad"]).toContain(result.mood);
  expect(result.urgent).toBeTypeOf("boolean");
  const tokens = result.metrics.find(({ name }) => name === "vllm:generation_tokens");
  expect(tokens).toMatchObject({ type: "counter", labels: { engine: "0" } });
  expect(tokens.value).toBeGreaterThan(0);
  expect(result.told).toMatchObject({ backend: "cpu", reason: null, download_bytes: statSync(process.env.EMBERGRAM_TINY_MODEL).size });
});

test("the page that takes the package from a CDN runs, from another origin", async () => {
  const [html, ...more] = snippetsOf("README.md", "html");
  expect(more).toEqual([]);
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  expect(html).toContain(`${CDN}${version}/dist/index.js`);
  const cdn = await serve({ root: dist, headers: { "access-control-allow-origin": "*" } });
  const site = await serve();
  site.file(MODEL, readFileSync(process.env.EMBERGRAM_TINY_MODEL));
  const page = html.replace(`${CDN}${version}/dist`, cdn.origin).replace(HUB, JSON.stringify(MODEL));
  site.file("/", Buffer.from(page), { "content-type": "text/html" });
  const tab = await browser.context.newPage();
  await tab.goto(site.origin);
  await tab.waitForFunction(() => document.querySelector("#answer").textContent !== "", undefined, { timeout: 120_000 });
  await tab.close();
  await Promise.all([cdn.close(), site.close()]);
});

test("those of docs/sources.md run", async () => {
  const [folder, inspect, ...more] = snippetsOf("docs/sources.md");
  expect(more).toEqual([]);
  const { page } = browser;
  await page.evaluate(() => document.body.insertAdjacentHTML("beforeend", '<input id="folder" type="file" webkitdirectory>'));
  await page.setInputFiles("#folder", hfFolder());
  const code = `${folder.replace("<HTMLInputElement>", "")}\n${inspect}`;
  const { told, name } = await page.evaluate(`(async () => {
    const { Llm } = embergram;
    ${code}
    const { name } = llm.model;
    await llm.unload();
    return { told, name };
  })()`);
  expect(name).toBe("llama3");
  expect(told).toMatchObject({ backend: "cpu", reason: null, download_bytes: statSync(process.env.EMBERGRAM_TINY_MODEL).size });
  // The comment names every field.
  for (const field of Object.keys(told.model)) expect(inspect).toContain(field);
});

test("those of docs/backends.md run", async () => {
  const [snippet, precise, ...more] = snippetsOf("docs/backends.md");
  expect(more).toEqual([]);
  const { support, adapter, precision } = await browser.page.evaluate(`(async () => {
    const { Llm } = embergram;
    ${snippet}
    const { adapter } = llm.model;
    await llm.unload();
    ${precise}
    const { precision } = fast.model;
    await fast.unload();
    return { support, adapter, precision };
  })()`);
  expect(support).toMatchObject({ backend: "cpu", adapter: { backend: "cpu" }, webgpu: true });
  expect(adapter).toMatchObject({ backend: "cpu", software: true });
  expect(precision).toBe("fast");
  // The comments name what is there.
  for (const field of ["backend", "name", "threads"]) expect(support.adapter).toHaveProperty(field);
  expect(support.cpu.advice).toContain("Cross-Origin-Opener-Policy");
});
