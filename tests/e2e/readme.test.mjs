// What the snippets of the README, of docs/sources.md and of docs/backends.md say is so: all of them, one after another, in one page.
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { root } from "../../scripts/setup.mjs";
import { hfFolder } from "../support/hf-folder.mjs";
import { open } from "./harness.mjs";

const snippetsOf = (page) => [...readFileSync(join(root, page), "utf8").matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]);
const snippets = snippetsOf("README.md");
const MODEL = "/models/SmolLM2-135M-Instruct.Q4_1.gguf";

let browser;
beforeAll(async () => {
  browser = await open({ places: { [MODEL]: process.env.EMBERGRAM_TINY_MODEL } });
});
afterAll(() => browser?.close());

test("the snippets run", async () => {
  expect(snippets.length).toBeGreaterThanOrEqual(3);
  const imports = snippets.join("\n").match(/^import .*$/gm);
  const code = snippets.join("\n").replaceAll(/^import .*$/gm, "");
  // What a snippet takes from the page around it.
  const content = `
    ${imports.join("\n").replaceAll('"embergram"', '"/dist/index.js"')}
    const { signal } = new AbortController();
    let shown = "";
    const show = (text) => (shown += text);
    const messages = [{ role: "user", content: "Hello" }];
    const prompt = "one two three one two three one two";
    try {
      ${code}
      let streamed = "";
      for await (const chunk of completion) streamed += chunk.choices[0]?.delta.content ?? "";
      globalThis.result = {
        text: output.outputs[0].text, shown, answer: answer.outputs[0].text, streamed, metrics, told, stats: speculationStats(metrics),
      };
    } catch (error) {
      globalThis.result = { error: String(error) };
    }`;
  await browser.page.addScriptTag({ type: "module", content });
  await browser.page.waitForFunction(() => globalThis.result, undefined, { timeout: 300_000 });
  const result = await browser.page.evaluate(() => globalThis.result);
  expect(result.error).toBeUndefined();
  for (const text of [result.text, result.shown, result.answer, result.streamed]) expect(text).not.toBe("");
  const of = (name) => result.metrics.find((metric) => metric.name === name);
  const drafts = of("vllm:spec_decode_num_drafts");
  expect(drafts).toMatchObject({ type: "counter", labels: { engine: "0" } });
  expect(drafts.value).toBeGreaterThan(0);
  expect(of("vllm:spec_decode_num_accepted_tokens_per_pos").values).toHaveLength(5);
  expect(result.stats.num_drafts).toBe(drafts.value);
  expect(result.told).toMatchObject({ backend: "cpu", reason: null, model: { architecture: "llama" } });
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
