// The examples, in a real Chromium over a tiny model: what they print is what the engine counted.
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build as esbuild } from "esbuild";
import { build as vite } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dist } from "../../scripts/build.mjs";
import { root } from "../../scripts/setup.mjs";
import { listener } from "../../www/embergram/node/cli/http.ts";
import { Llm } from "../node/harness.mjs";
import { open } from "./harness.mjs";

const NAMES = ["basic_metrics", "acceptance_rate", "per_position", "tuning", "openai", "ai_sdk", "server"];
const folder = mkdtempSync(join(tmpdir(), "embergram-examples-"));
let browser;
let page;
beforeAll(async () => {
  await esbuild({
    entryPoints: NAMES.map((name) => join(root, `examples/${name}.ts`)), outdir: folder, bundle: true, format: "esm",
    // Where a bundler finds the package; here the page has it.
    plugins: [{ name: "embergram", setup: (b) => b.onResolve({ filter: /^embergram$/ }, () => ({ path: "/dist/index.js", external: true })) }],
  });
  await vite({
    root: join(root, "examples/vite"), logLevel: "error", base: "./",
    resolve: { alias: { embergram: join(dist, "index.js") } },
    build: { outDir: join(folder, "vite"), emptyOutDir: true },
  });
  browser = await open({ places: { "/examples/": folder, "/vite/": join(folder, "vite") } });
  page = browser.page;
}, 120_000);
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** What an example printed, and what it returned. */
const run = (name, more = "") => page.evaluate(`(async () => {
  const lines = [];
  const { main } = await import("/examples/${name}.js");
  const result = await main({ model: "/tiny.gguf", max_model_len: 256 }, (line) => lines.push(line)${more});
  return { lines, result };
})()`);
/** The number behind a line's words. */
const number = (lines, words) => Number(/-?[\d.]+/.exec(lines.find((line) => line.startsWith(words)).slice(words.length))[0]);

test("basic metrics: every metric has a line", async () => {
  const { lines } = await run("basic_metrics");
  expect(lines[0]).toMatch(/^Explain quantum computing: -> ./);
  expect(number(lines, "vllm:generation_tokens =")).toBeGreaterThan(0);
  expect(number(lines, "vllm:spec_decode_num_drafts =")).toBeGreaterThan(0);
  expect(lines.some((line) => /^vllm:spec_decode_num_accepted_tokens_per_pos = \[\d+(, \d+){4}\]$/.test(line))).toBe(true);
  expect(number(lines, "vllm:time_to_first_token_seconds: count")).toBe(2);
});

test("acceptance rate: the difference of snapshots is the request's own account", async () => {
  const { lines } = await run("acceptance_rate");
  const [drafted, accepted] = [number(lines, "draft tokens:"), number(lines, "accepted tokens:")];
  expect(accepted).toBeGreaterThan(0);
  expect(number(lines, "acceptance rate:")).toBeCloseTo((100 * accepted) / drafted, 0);
  expect(number(lines, "mean acceptance length:")).toBeCloseTo(1 + accepted / number(lines, "drafts:"), 1);
  const account = (line) => /(\d+ of \d+) accepted$/.exec(line)[1];
  expect(account(lines.at(-2))).toBe(account(lines.at(-1)));
});

test("per position: a line for each, never rising", async () => {
  const { lines } = await run("per_position");
  const counts = lines.slice(1).map((line) => Number(/^position \d: +(\d+)/.exec(line)[1]));
  expect(counts).toHaveLength(7);
  expect(counts[0]).toBeGreaterThan(0);
  expect(counts[0]).toBeLessThanOrEqual(number(lines, "drafts:"));
  expect(counts).toEqual([...counts].sort((a, b) => b - a));
});

test("tuning: a row a setting, and one recommended", async () => {
  const { lines, result } = await run("tuning");
  expect(lines[0]).toBe("1 of 13: warm-up");
  expect(result.rows.map((row) => row.label)).toEqual(["none", "K=3, lookup 2-4", "K=5, lookup 2-4", "K=7, lookup 2-4"]);
  expect(result.same_tokens).toBe(true);
  expect(result.rows[2].num_accepted_tokens).toBeGreaterThan(0);
  expect(lines.filter((line) => line.startsWith(`${result.recommended} *`))).toHaveLength(1);
});

test("OpenAI's calls", async () => {
  const { lines } = await run("openai");
  expect(lines).toHaveLength(3);
  expect(lines[1]).toMatch(/^\d+ tokens, (stop|length)$/);
  expect(lines[2]).toMatch(/^[^]+\n\d+ tokens$/);
});

test("the AI SDK", async () => {
  const { lines } = await run("ai_sdk");
  expect(lines[0]).not.toBe("");
  expect(lines[1]).toMatch(/^\d+ tokens$/);
});

test("a model here, and a server", async () => {
  const llm = await Llm.load({ model: process.env.EMBERGRAM_TINY_MODEL, max_model_len: 256, speculative_config: { method: "ngram", num_speculative_tokens: 3, prompt_lookup_min: 1 , prompt_lookup_max: 3 } });
  const server = createServer(listener(llm.fetch)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const origin = `http://127.0.0.1:${server.address().port}`;
  const { lines } = await run("server", `, "${origin}"`);
  expect(lines).toHaveLength(6);
  expect(lines[3]).toBe(`random tiny on ${origin}`);
  // The same model, and the same text.
  expect(lines[4]).toBe(lines[1]);
  expect(lines[2]).toBe("no speculation");
  expect(lines[5]).toMatch(/^acceptance rate: [\d.]+ %$/);
  server.close();
  await llm.unload();
});

test("the Vite project builds, loads a file that is chosen, and streams", async () => {
  const tab = await browser.context.newPage();
  const errors = [];
  tab.on("pageerror", (error) => errors.push(error.message));
  await tab.goto(`${browser.server.url}/vite/index.html`);
  await tab.setInputFiles("#file", process.env.EMBERGRAM_TINY_MODEL);
  await tab.locator("#go:enabled").waitFor({ timeout: 120_000 });
  await tab.click("#go");
  await tab.getByText("of the draft tokens accepted").waitFor({ timeout: 300_000 });
  expect((await tab.locator("#text").textContent()).length).toBeGreaterThan(20);
  expect(errors).toEqual([]);
  await tab.close();
});
