// The examples, in a real Chromium over a tiny model: what they print is what the engine counted.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build as esbuild } from "esbuild";
import { build as vite } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch } from "../../scripts/browser.mjs";
import { dist } from "../../scripts/build.mjs";
import { root } from "../../scripts/setup.mjs";
import { listener } from "../../www/embergram/node/cli/http.ts";
import { Llm } from "../node/harness.mjs";
import { open } from "./harness.mjs";

const NAMES = ["basic_metrics", "acceptance_rate", "per_position", "tuning", "openai", "ai_sdk", "server"];
const folder = mkdtempSync(join(tmpdir(), "embergram-examples-"));
/** Builds an example as its package.json says, in a folder where the package is installed. */
function built(name) {
  const at = join(folder, name);
  cpSync(join(root, "examples", name), at, { recursive: true, filter: (from) => !/node_modules|dist$/.test(from.slice(root.length)) });
  mkdirSync(join(at, "node_modules"));
  symlinkSync(root, join(at, "node_modules/embergram"));
  const PATH = `${join(root, "node_modules/.bin")}:${process.env.PATH}`;
  execFileSync("npm", ["run", "build"], { cwd: at, env: { ...process.env, PATH }, stdio: "pipe" });
  return join(at, "dist");
}

let browser;
let page;
beforeAll(async () => {
  await esbuild({
    entryPoints: NAMES.map((name) => join(root, `examples/${name}.ts`)), outdir: folder, bundle: true, format: "esm",
    // Where a bundler finds the package; here the page has it.
    plugins: [{ name: "embergram", setup: (b) => b.onResolve({ filter: /^embergram$/ }, () => ({ path: "/dist/index.js", external: true })) }],
  });
  for (const name of ["vite", "react"]) {
    await vite({
      root: join(root, "examples", name), logLevel: "error", base: "./",
      resolve: { alias: { embergram: join(dist, "index.js") } },
      build: { outDir: join(folder, name), emptyOutDir: true },
    });
  }
  browser = await open({
    places: { "/examples/": folder, "/vite/": join(folder, "vite"), "/react/": join(folder, "react"), "/sw/": built("service-worker") },
  });
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

test("the React chat streams, answers a second time, and stops", async () => {
  const tab = await browser.context.newPage();
  const errors = [];
  tab.on("pageerror", (error) => errors.push(error.message));
  await tab.goto(`${browser.server.url}/react/index.html?model=/tiny.gguf`);
  await tab.getByText("random tiny on").waitFor({ timeout: 120_000 });
  const ask = async (text) => {
    await tab.fill("textarea", text);
    await tab.click("text=Send");
  };
  const answers = tab.locator('[data-role="assistant"] span');
  await ask("Hello");
  await tab.locator("text=Stop").and(tab.locator(":disabled")).waitFor({ timeout: 120_000 });
  expect(await answers.first().textContent()).not.toBe("");
  // Stopped as soon as there is a text: of a model whose 300 tokens take seconds most never come.
  await ask("Again");
  await answers.nth(1).and(tab.locator(":not(:empty)")).waitFor({ timeout: 120_000 });
  await tab.goto(`${browser.server.url}/react/index.html?model=/model.gguf`);
  await tab.locator("text=Send").waitFor();
  await tab.locator('[role="status"]:has-text(" on ")').waitFor({ timeout: 120_000 });
  await tab.evaluate(() => {
    new MutationObserver((_, observer) => {
      if (!document.querySelector('[data-role="assistant"] span')?.textContent) return;
      observer.disconnect();
      document.querySelector('button[type="button"]').click();
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  await ask("Tell me a long story.");
  await answers.and(tab.locator(":not(:empty)")).waitFor({ timeout: 120_000 });
  await tab.locator("text=Stop").and(tab.locator(":disabled")).waitFor({ timeout: 120_000 });
  expect((await answers.textContent()).length).toBeLessThan(300);
  expect(await tab.locator("li").count()).toBe(2);
  expect(await tab.locator('[role="alert"]').count()).toBe(0);
  await tab.goto(`${browser.server.url}/react/index.html?model=/none.gguf`);
  await tab.getByText("http:").waitFor({ timeout: 30_000 });
  expect(errors).toEqual([]);
  await tab.close();
});

// Next.js bundles with a bundler of its own. It is 340 MB, so that only this test has it.
test("the Next.js project builds, and its chat streams from a page that is isolated", async () => {
  const at = join(folder, "nextjs");
  cpSync(join(root, "examples/nextjs"), at, { recursive: true, filter: (from) => !/node_modules|\.next/.test(from.slice(root.length)) });
  const manifest = JSON.parse(readFileSync(join(at, "package.json"), "utf8"));
  // The package as npm would pack it: a link out of the project is none of its bundler's business.
  const packed = join(at, "embergram");
  cpSync(dist, join(packed, "dist"), { recursive: true });
  cpSync(join(root, "package.json"), join(packed, "package.json"));
  manifest.dependencies.embergram = "file:embergram";
  writeFileSync(join(at, "package.json"), JSON.stringify(manifest));
  cpSync(process.env.EMBERGRAM_TINY_MODEL, join(at, "public/tiny.gguf"));
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: "1" };
  const options = { cwd: at, env, stdio: "pipe", timeout: 240_000 };
  execFileSync("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--install-links"], options);
  execFileSync("npm", ["run", "build"], options);
  const server = spawn(process.execPath, [join(at, "node_modules/next/dist/bin/next"), "start", "--port", "0"], { cwd: at, env });
  try {
    const origin = await new Promise((done) => {
      let said = "";
      server.stdout.setEncoding("utf8").on("data", (text) => {
        const found = /http:\/\/localhost:\d+/.exec((said += text));
        if (found) done(found[0]);
      });
    });
    const tab = await browser.context.newPage();
    const errors = [];
    tab.on("pageerror", (error) => errors.push(error.message));
    await tab.goto(`${origin}/?model=/tiny.gguf`);
    await tab.getByText(/random tiny on CPU, ([2-9]|\d\d) threads/).waitFor({ timeout: 60_000 });
    await tab.fill("textarea", "Hello");
    await tab.click("text=Send");
    const answer = tab.locator('[data-role="assistant"] span');
    await answer.and(tab.locator(":not(:empty)")).waitFor({ timeout: 60_000 });
    expect(errors).toEqual([]);
    await tab.close();
  } finally {
    server.kill();
  }
}, 600_000);

test("the service worker answers its pages", async () => {
  const tab = await browser.context.newPage();
  const answer = async (model) => {
    await tab.goto(`${browser.server.url}/sw/index.html?model=${encodeURIComponent(`${browser.server.url}/${model}`)}`);
    await tab.locator("body[data-ready]").waitFor();
    await tab.click("text=Ask");
    await tab.locator("#answer[data-status]").waitFor({ timeout: 120_000 });
    return { status: await tab.locator("#answer").getAttribute("data-status"), text: await tab.locator("#answer").textContent() };
  };
  const got = await answer("tiny.gguf");
  expect(got.status).toBe("200");
  expect(got.text).not.toBe("");
  await tab.close();
});

test("the extension's popup is answered by its background", async () => {
  const extension = built("extension");
  const args = [`--disable-extensions-except=${extension}`, `--load-extension=${extension}`, "--disable-features=DisableLoadExtensionCommandLineSwitch"];
  const context = await launch({ args, ignoreDefaultArgs: ["--disable-extensions"] });
  const background = context.serviceWorkers().find((w) => w.url().startsWith("chrome-extension:")) ?? (await context.waitForEvent("serviceworker"));
  cpSync(process.env.EMBERGRAM_TINY_MODEL, join(extension, "tiny.gguf"));
  const tab = await context.newPage();
  const answer = async (model) => {
    await tab.goto(new URL(`popup.html?model=${encodeURIComponent(new URL(model, background.url()))}`, background.url()).href);
    await tab.click("text=Ask");
    await tab.locator("#answer[data-state]").waitFor({ timeout: 120_000 });
    return { state: await tab.locator("#answer").getAttribute("data-state"), text: await tab.locator("#answer").textContent() };
  };
  expect(await answer("none.gguf")).toMatchObject({ state: "failed", text: expect.stringMatching(/^[a-z_]+: ./) });
  const got = await answer("tiny.gguf");
  expect(got.state).toBe("done");
  expect(got.text).not.toBe("");
  await context.close();
}, 120_000);
