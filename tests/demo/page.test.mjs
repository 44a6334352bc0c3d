// The demo page from end to end: the built page, the package's own worker and engine, real models, a real Chromium.
import { mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { buildDemo } from "../../scripts/demo.mjs";
import { serve } from "../../scripts/serve.mjs";
import { root } from "../../scripts/setup.mjs";
import { hfFolder } from "../support/hf-folder.mjs";
import { hub } from "../support/hub.mjs";
import { exchange, recordedServer } from "../support/recorded-server.mjs";
import { serve as serveFaulty } from "../support/server.mjs";
import { bytes, fixed, percent, seconds } from "../../www/demo/src/format.ts";
import { contrasts } from "./contrast.mjs";
import { open } from "./page.mjs";

const TINY = process.env.EMBERGRAM_TINY_MODEL;
const SMOLLM2 = process.env.EMBERGRAM_MODEL;
const folder = hfFolder();
const shots = join(root, "build/screenshots");

let page, user, problems, close;

async function start(options) {
  ({ page, user, problems, close } = await open([TINY, SMOLLM2], options));
}

beforeAll(() => buildDemo(), 1_800_000);

describe("with a tiny model", () => {
  beforeAll(async () => {
    await start();
    await user.loadServed(basename(TINY, ".gguf"));
  }, 1_800_000);
  afterAll(() => close?.());
  beforeEach(async () => {
    await user.set({ speculation: 5, max_tokens: 48, temperature: 0, top_p: "", seed: "", lookup_min: 2, lookup_max: 4 });
    await page.keyboard.press("Escape");
  });

  test("says what runs the model, and of each choice what to expect", async () => {
    const adapter = await user.text("#adapter");
    // With a GPU there is nothing to say.
    if (adapter.endsWith("(WebGPU)")) return expect(await page.locator("#notice").isVisible()).toBe(false);
    expect(adapter).toMatch(/^CPU, \d+ threads?, WebAssembly/);
    const threads = /\d+ threads/.exec(adapter)[0];
    expect(await user.text("#notice")).toMatch(new RegExp(`^No GPU here: the CPU computes, with ${threads}\\. A GPU would be faster`));
    await user.choose({ backend: "webgpu" });
    expect(await user.text("#notice")).toContain("This WebGPU computes on the processor.");
    await user.choose({ backend: "cpu", threads: 1 });
    expect(await user.text("#notice")).toContain("the CPU computes, with one thread.");
    await user.choose({ backend: "auto", threads: "" });
  });

  test("shows model, memory and what the browser keeps", async () => {
    expect(await user.text("#fact-context")).toBe("512 tokens");
    expect(await user.text("#fact-gpu")).toBe(bytes(await user.metric("embergram:gpu_memory_bytes")));
    expect(await user.text("#fact-heap")).toBe(bytes(await user.metric("embergram:wasm_heap_bytes")));
    expect(await page.locator("#cached-list .name").allInnerTexts()).toEqual([basename(TINY)]);
  });

  test("tints accepted draft tokens, and without speculation the text is the same", async () => {
    const before = await user.metric("vllm:spec_decode_num_accepted_tokens_per_pos").catch(() => []);
    const drafted = await user.complete("the river and the");
    const after = await user.metric("vllm:spec_decode_num_accepted_tokens_per_pos");
    const shown = after.map((_, i) => drafted.stretches.filter(({ position }) => position === i).length);
    const counted = after.map((count, i) => count - (before[i] ?? 0));
    expect(shown[0]).toBeGreaterThan(0);
    // The last step's drafts may lie beyond max_tokens: they are counted and not shown. Others may have no text.
    shown.forEach((count, i) => expect(count).toBeLessThanOrEqual(counted[i]));
    expect(await page.locator(".draft").first().getAttribute("title")).toBe("Draft position 0");

    await user.set({ speculation: "off" });
    const plain = await user.complete("the river and the");
    expect(plain.stretches.every(({ position }) => position === -1)).toBe(true);
    expect(plain.text).toBe(drafted.text);
    expect(plain.text).not.toBe("");
  });

  test("charts show what getMetrics() says", async () => {
    await user.complete("time people water");
    const value = (name) => user.metric(`vllm:${name}`);
    const [drafts, draftTokens, accepted, perPosition, tokens] = await Promise.all([
      value("spec_decode_num_drafts"), value("spec_decode_num_draft_tokens"), value("spec_decode_num_accepted_tokens"),
      value("spec_decode_num_accepted_tokens_per_pos"), value("generation_tokens"),
    ]);
    const [ttft, itl] = await Promise.all([value("time_to_first_token_seconds"), value("inter_token_latency_seconds")]);
    expect(await user.text("#chart-acceptance-now")).toBe(percent(accepted / draftTokens));
    expect(await user.text("#chart-length-now")).toBe(fixed(1 + accepted / drafts, 2));
    expect(await user.text("#chart-step-now")).toBe(fixed((tokens - ttft.count) / itl.count, 2));
    expect(await user.text("#chart-ttft-now")).toBe(`mean ${seconds(ttft.sum / ttft.count)}`);
    expect(await user.text("#chart-itl-now")).toBe(`mean ${seconds(itl.sum / itl.count)}`);
    const spoken = (id) => page.locator(`#${id} [role=img]`).getAttribute("aria-label");
    const each = perPosition.map((count, i) => `${i}: ${percent(count / drafts)}`).join(", ");
    expect(await spoken("chart-positions")).toBe(`Acceptance by draft position: ${each}`);
    expect(await spoken("chart-itl")).toContain(`${itl.count} steps`);
    for (const id of ["chart-rate", "chart-acceptance", "chart-length", "chart-positions", "chart-step", "chart-ttft", "chart-itl"]) {
      expect(await drawnPixels(id), id).toBeGreaterThan(20);
    }

    await page.click("#tab-text");
    await page.waitForFunction(() => document.getElementById("panel-text").textContent.includes("# TYPE"));
    const line = (await user.text("#panel-text")).split("\n").find((l) => l.startsWith("vllm:generation_tokens_total"));
    expect(Number(line.split(" ").at(-1))).toBe(tokens);
    await page.click("#tab-json");
  });

  test("chat keeps its history until a new one begins", async () => {
    await user.set({ max_tokens: 12 });
    await user.say("Where is the house?");
    const [, first, answered] = /^(\d+) \+ (\d+) tokens/.exec(await user.text("#summary")).map(Number);
    await user.say("And the river?");
    const [, second] = /^(\d+) \+ (\d+) tokens/.exec(await user.text("#summary")).map(Number);
    expect(second).toBeGreaterThan(first + answered);
    expect(await page.locator("#chat-output li").count()).toBe(4);
    await page.click("#new-chat");
    expect(await page.locator("#chat-output li").count()).toBe(0);
    await user.say("Where is the house?");
    expect(Number(/^\d+/.exec(await user.text("#summary"))[0])).toBe(first);
  });

  test("a setting out of range is pointed at; what the engine refuses is said; both leave the page usable", async () => {
    await page.click("#tab-prompt");
    await user.set({ top_p: 3 });
    await page.$eval("#settings details", (details) => (details.open = false));
    await page.click("#run");
    expect(await page.evaluate(() => document.activeElement.name)).toBe("top_p");
    await user.set({ top_p: "", lookup_min: 5, lookup_max: 2 });
    await page.click("#run");
    await user.idle();
    expect(await user.alertCode()).toBe("invalid_config");
    expect(await user.text("[role=alert] p")).toContain("prompt_lookup_min");
    await page.keyboard.press("Escape");
    expect(await user.alertCode()).toBe(null);
    await user.set({ lookup_min: 2, lookup_max: 4, max_tokens: 8 });
    expect((await user.complete("light")).text).not.toBe("");
  });

  test("answers by a JSON schema, and tints what it forces", async () => {
    await user.set({ max_tokens: 200, schema: JSON.stringify({
      type: "object", properties: { kind: { enum: ["tide", "moon"] }, high: { type: "boolean" } }, required: ["kind", "high"], additionalProperties: false,
      "x-guidance": { whitespace_flexible: false },
    }) });
    const forced = () => user.metric("embergram:forced_tokens");
    const before = await forced();
    const { text } = await user.complete("as JSON: ");
    expect(JSON.parse(text)).toEqual({ kind: expect.stringMatching(/^(tide|moon)$/), high: expect.any(Boolean) });
    const shown = await page.locator("#prompt-output .forced").allInnerTexts();
    expect(shown.join("")).toContain("kind");
    expect(await forced() - before).toBeGreaterThanOrEqual(shown.length);
    // What is no JSON is pointed at; what the engine refuses is named.
    await user.set({ schema: "{ nothing" });
    await page.click("#run");
    expect(await page.evaluate(() => [document.activeElement.name, document.activeElement.validationMessage.slice(0, 15)])).toEqual(["schema", "This is no JSON"]);
    await user.set({ schema: '{ "type": "string", "format": "colour" }' });
    await page.click("#run");
    await user.idle();
    expect(await user.alertCode()).toBe("invalid_params");
    expect(await user.text("[role=alert] p")).toContain("colour");
    await page.click("#schema-example");
    expect(JSON.parse(await page.inputValue("#schema")).required).toContain("name");
    await user.set({ schema: "" });
  });

  test("calls a function with its arguments", async () => {
    await user.set({ max_tokens: 160 });
    const { name, given } = await user.call();
    expect(name).toBe("get_weather");
    expect(given).toEqual({ city: expect.any(String), unit: expect.stringMatching(/^(celsius|fahrenheit)$/) });
    await page.fill("#tool-function", "[1]");
    await page.click("#run");
    expect(await page.evaluate(() => document.activeElement.id)).toBe("tool-function");
    await page.fill("#tool-function", "{}");
    await page.click("#run");
    await user.idle();
    expect(await user.alertCode()).toBe("invalid_params");
    await page.click("#tab-prompt");
  });

  test("two prompts share their steps, and each says what it says alone", async () => {
    await user.set({ speculation: "off", max_tokens: 24 });
    const { text: second } = await user.complete("time people water");
    const { text: first } = await user.complete("the river and the");
    const steps = async () => (await user.metric("embergram:step_time_seconds")).count;
    await page.$eval("#second", (details) => (details.open = true));
    await page.fill("#prompt-2", "time people water");
    const before = await steps();
    const { text } = await user.complete("the river and the");
    expect(text).toBe(first);
    expect((await user.text("#prompt-output-2")).slice("time people water".length)).toBe(second);
    expect(await steps() - before).toBeLessThan(40);
    expect(await user.text("#summary")).toMatch(/^Two prompts in shared steps: /);
    await page.$eval("#second", (details) => (details.open = false));
    await user.complete("the river and the");
    expect(await page.locator("#prompt-output-2").isVisible()).toBe(false);
  });

  test("the last answer stands beside those of other backends", async () => {
    const [row, ...others] = await page.$$eval("#backend-rows tr", (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
    expect(others).toEqual([]);
    expect(row).toEqual([await user.text("#adapter"), await user.text("#fact-gpu"), expect.stringMatching(/^[\d.]+$/), expect.stringMatching(/^[\d.]+$/)]);
  });

  test("tunes, and applies what it recommends", async () => {
    await page.fill("#tune-prompts", "the river and the\n---\ntime people water");
    await page.fill("#tune-ks", "0, 3, auto");
    await page.fill("#tune-tokens", "24");
    await page.click("#tune-run");
    await user.idle();
    expect(await user.alertCode()).toBe(null);
    expect(await user.text("#tune-status")).toBe("Done. Every K gave the same tokens.");
    const rows = await page.$$eval("#tune-rows tr", (all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));
    expect(rows.map(([k]) => k)).toEqual(["0", "3", "auto"]);
    expect(rows.every(([, rate]) => Number(rate) > 0)).toBe(true);
    expect(rows[1][3]).toMatch(/%$/);
    expect(await drawnPixels("chart-speeds")).toBeGreaterThan(20);
    expect(await drawnPixels("chart-curves")).toBeGreaterThan(20);
    await page.click("#apply");
    const best = await page.locator("#tune-rows [data-best] th").innerText();
    expect(await page.inputValue("#speculation")).toBe(best === "0" ? "off" : best);
  });

  test("nothing moves while text streams", async () => {
    await page.evaluate(() => (globalThis.layoutShift = 0));
    await user.complete("house");
    expect(await page.evaluate(() => globalThis.layoutShift)).toBeLessThan(0.02);
  });

  test.each(["light", "dark"])("text and controls stand out in the %s theme", async (colorScheme) => {
    await page.emulateMedia({ colorScheme });
    for (const { pair, ratio, least } of await contrasts(page)) expect(ratio, pair).toBeGreaterThanOrEqual(least);
    await page.emulateMedia({ colorScheme: "light" });
  });

  test("fits 360 pixels", async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
    await page.setViewportSize({ width: 1440, height: 900 });
  });

  test("breaks no rule of its Content-Security-Policy", () => {
    expect(problems).toEqual([]);
  });

  test("a model that does not load says why, and the next one does", async () => {
    await user.loadAddress("models/missing.gguf");
    expect(await user.alertCode()).toBe("http");
    await page.check("[name=source][value=file]", { force: true });
    await page.setInputFiles("#file", { name: "letter.gguf", mimeType: "text/plain", buffer: Buffer.from("Dear Sir or Madam, ".repeat(9)) });
    await user.load();
    expect(await user.alertCode()).toBe("invalid_file");
    await page.setInputFiles("#file", TINY);
    expect(await user.load()).toMatch(/^Ready/);
    expect(await user.alertCode()).toBe(null);
  });

  test("takes a chosen folder in the Hugging Face layout, and quantises it", async () => {
    await page.setInputFiles("#folder", folder);
    expect(await user.text("#file-name")).toContain("6 files");
    expect(await user.load()).toMatch(/^Ready/);
    const plain = await user.metric("embergram:gpu_memory_bytes");
    await page.$eval("#load details", (details) => (details.open = true));
    await page.selectOption("[name=quantization]", "q8_0");
    expect(await user.load()).toMatch(/^Ready/);
    expect(await user.metric("embergram:gpu_memory_bytes")).toBeLessThan(plain);
    expect(await user.text("#fact-name")).toBe(basename(folder));
    expect((await user.complete("the tide and the moon")).text).not.toBe("");
    await page.selectOption("[name=quantization]", "");
  });

  test("takes a dropped folder, without what lies deeper", async () => {
    // A script cannot make a drop with folders: Chromium makes this one, as of the file manager.
    const session = await page.context().newCDPSession(page);
    const data = { items: [], files: [folder], dragOperationsMask: 1 };
    for (const type of ["dragEnter", "dragOver", "drop"]) await session.send("Input.dispatchDragEvent", { type, x: 300, y: 300, data });
    await page.waitForFunction(() => document.getElementById("file-name").textContent.includes("5 files"));
    expect(await user.load()).toMatch(/^Ready/);
    expect(await user.text("#fact-context")).toBe("256 tokens");
  });

  test("lists kept models, not files: name, size, when they were used; one click loads, one deletes", async () => {
    const host = await serve({ "/a-folder/": folder }, { headers: { "access-control-allow-origin": "*" } });
    expect(await user.loadAddress(`${host.url}/a-folder/`)).toMatch(/^Ready/);
    const row = page.locator("#cached-list li", { hasText: "a-folder" });
    await row.waitFor();
    const size = readdirSync(folder).map((name) => statSync(join(folder, name))).filter((file) => file.isFile()).reduce((sum, file) => sum + file.size, 0);
    expect(await row.locator(".hint").innerText()).toMatch(new RegExp(`^${bytes(size)}\\s+used \\d\\d:\\d\\d$`));
    expect(await user.loadAddress(`models/${basename(TINY)}`)).toMatch(/^Ready/);
    await page.press("[aria-label='Load a-folder']", "Enter");
    await user.idle();
    expect(await user.alertCode()).toBe(null);
    expect(await user.text("#fact-name")).toBe("a-folder");
    // What was used last comes first.
    await expect.poll(() => page.locator("#cached-list .name").first().innerText()).toBe("a-folder");
    await page.press("[aria-label='Delete a-folder']", "Enter");
    await row.waitFor({ state: "detached" });
    expect(await page.evaluate(async () => (await navigator.storage.getDirectory()).getDirectoryHandle("embergram").then((all) => all.getDirectoryHandle("models")).then(async (all) => {
      let found = 0;
      for await (const _ of all.keys()) found += 1;
      return found;
    }))).toBe(await page.locator("#cached-list li").count());
    await host.close();
  });

  test("takes a dropped file", async () => {
    const data = await page.evaluateHandle((base64) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], "dropped.gguf"));
      return transfer;
    }, readFileSync(TINY).toString("base64"));
    await page.dispatchEvent("main", "drop", { dataTransfer: data });
    expect(await user.text("#file-name")).toContain("dropped.gguf");
    expect(await user.load()).toMatch(/^Ready/);
  });

  test("a download that is cut at 40 % goes on at that byte", async () => {
    const host = await serveFaulty({ headers: { "access-control-allow-origin": "*" } });
    const file = readFileSync(TINY);
    const cutAfter = Math.floor(file.length * 0.4);
    host.file("/cut.gguf", file);
    host.fault("/cut.gguf", ({ method }, count) => (method === "GET" && count === 1 ? { cutAfter } : undefined));
    expect(await user.loadAddress(`${host.origin}/cut.gguf`)).toMatch(/^Ready/);
    await host.close();
    const asked = host.of("/cut.gguf").filter(({ method }) => method === "GET").map(({ headers }) => headers.range);
    expect(asked).toEqual(["bytes=0-", `bytes=${cutAfter - 1024}-`]);
  });

  test("loads a model by its repository and quantization, and shows what a wrong one could be", async () => {
    const host = await serveFaulty();
    hub(host, "some/model-GGUF", { "README.md": Buffer.from("#"), "model-Q8_0.gguf": readFileSync(TINY) });
    // The hub itself cannot be reached from a test: its name leads to this machine.
    const there = "https://huggingface.co";
    const lead = async (route) => route.fulfill({ response: await route.fetch({ url: route.request().url().replace(there, host.origin) }) });
    await page.context().route(`${there}/**`, lead);
    await user.loadAddress("hf:some/model-GGUF:Q4_K_M");
    expect(await user.alertCode()).toBe("invalid_config");
    expect(await user.text("[role=alert] p")).toContain("model-Q8_0 (0.1 MB)");
    expect(await user.loadAddress("hf:some/model-GGUF:q8_0")).toMatch(/^Ready/);
    expect(await user.alertCode()).toBe(null);
    await page.context().unroute(`${there}/**`, lead);
    await host.close();
  });

  test("loads again without the server, until the copy is deleted", async () => {
    const host = await serve({ "/elsewhere.gguf": TINY }, { headers: { "access-control-allow-origin": "*" } });
    expect(await user.loadAddress(`${host.url}/elsewhere.gguf`)).toMatch(/^Ready/);
    await host.close();
    await page.press("[aria-label='Load elsewhere.gguf']", "Enter");
    await user.idle();
    expect(await user.text("#load-status")).toMatch(/^Ready/);
    await page.press("[aria-label='Delete elsewhere.gguf']", "Enter");
    await page.locator("[aria-label='Delete elsewhere.gguf']").waitFor({ state: "detached" });
    await user.load();
    expect(await user.alertCode()).toBe("network");
  });
});

describe("with a vLLM server", () => {
  let server;
  beforeAll(async () => {
    server = await recordedServer({ key: "right", allow: "*" });
    await start();
  }, 1_800_000);
  afterAll(async () => {
    await close?.();
    server?.close();
  });

  test("chats with it, and charts its acceptance", async () => {
    await user.connect(server.origin, "wrong");
    expect(await user.alertCode()).toBe("unauthorized");
    problems.length = 0;
    expect(await user.connect(server.origin, "right")).toMatch(/^Ready/);
    expect(await user.text("#adapter")).toBe(server.origin);
    expect(await user.text("#fact-name")).toBe("qwen2.5-coder-0.5b-instruct");
    const [drafted, accepted] = await Promise.all(["draft", "accepted"].map((what) => user.metric(`vllm:spec_decode_num_${what}_tokens`)));
    expect(await user.text("#chart-acceptance-now")).toBe(percent(accepted / drafted));
    expect(await page.locator("#tune-run").isDisabled()).toBe(true);
    await user.set({ max_tokens: 48, temperature: 0 });
    const { request, response } = exchange("chat");
    expect(await user.say(request.body.messages[0].content)).toBe(JSON.parse(response.body).choices[0].message.content);
    expect(problems).toEqual([]);
  });
});

describe("without WebGPU, on a server that does not isolate the page", () => {
  beforeAll(() => start({ webgpu: false, headers: {}, query: "?threads=2" }), 1_800_000);
  afterAll(() => close?.());

  test("says what would help, and generates on the CPU", async () => {
    expect(await user.text("#adapter")).toBe("CPU, one thread");
    const notice = await user.text("#notice");
    expect(notice).toContain("No GPU here: the CPU computes, with one thread.");
    expect(notice).toContain("Cross-Origin-Opener-Policy: same-origin");
    expect(notice).toContain("Cross-Origin-Embedder-Policy: require-corp");
    expect(await user.loadServed(basename(TINY, ".gguf"))).toMatch(/^Ready/);
    expect(await user.text("#adapter")).toMatch(/^CPU, 1 thread, WebAssembly/);
    await user.set({ max_tokens: 12, temperature: 0 });
    expect((await user.complete("the river and the")).text).not.toBe("");
    expect(problems).toEqual([]);
  });

  test("a backend that is not there cannot be loaded on, and why is said", async () => {
    await user.choose({ backend: "webgpu" });
    expect(await page.locator("#load-button").isDisabled()).toBe(true);
    expect(await user.text("#notice")).toMatch(/^Models cannot run so\. WebGPU is there, but no adapter; .* Choose another backend\.$/);
    await user.choose({ backend: "auto" });
    expect(await page.locator("#load-button").isDisabled()).toBe(false);
  });
});

describe("with SmolLM2", () => {
  const golden = JSON.parse(readFileSync(join(root, "tests/golden/vllm_golden.json"), "utf8")).runs["5"];
  const recorded = golden.prompts.find(({ name }) => name === "code");
  const TOKENS = 24;

  beforeAll(async () => {
    mkdirSync(shots, { recursive: true });
    await start();
    await user.loadServed(basename(SMOLLM2, ".gguf"));
  }, 1_800_000);
  afterAll(() => close?.());

  test("the default prompt goes on as vLLM has it, tinted where vLLM accepted drafts", async () => {
    const { num_speculative_tokens, prompt_lookup_min, prompt_lookup_max } = golden.config.speculative_config;
    await user.set({ speculation: num_speculative_tokens, lookup_min: prompt_lookup_min, lookup_max: prompt_lookup_max, max_tokens: TOKENS, temperature: 0 });
    const { text, stretches } = await user.complete(await page.inputValue("#prompt"));
    expect(await user.text("#summary")).toMatch(new RegExp(`^${recorded.prompt_token_ids.length} \\+ ${TOKENS} tokens`));
    expect(text.length).toBeGreaterThan(TOKENS);
    expect(recorded.text.startsWith(text)).toBe(true);
    // A step's last token is the model's own, those before it are its draft's.
    const positions = recorded.steps.flatMap(({ sampled }) => sampled.map((_, i) => (i === sampled.length - 1 ? -1 : i))).slice(0, TOKENS);
    const drafted = (all) => all.filter((position) => position >= 0);
    expect(drafted(stretches.map(({ position }) => position))).toEqual(drafted(positions));
  });

  test("chats", async () => {
    await user.set({ max_tokens: 12 });
    expect(await user.say("What is the capital of France?")).toContain("Paris");
  });

  test("screenshots: wide, tablet, phone; light and dark", async () => {
    await page.click("#tab-prompt");
    await page.fill("#tune-prompts", await page.inputValue("#prompt"));
    await page.fill("#tune-ks", "0, 3, 5");
    await page.fill("#tune-tokens", "20");
    await page.click("#tune-run");
    await user.idle();
    expect(await user.alertCode()).toBe(null);
    await page.$eval("#settings details", (details) => (details.open = false));
    for (const [name, width, height] of [["wide", 1440, 900], ["tablet", 768, 1024], ["phone", 360, 740]]) {
      await page.setViewportSize({ width, height });
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        await page.waitForTimeout(300);
        await page.screenshot({ path: join(shots, `${name}-${colorScheme}.png`), fullPage: true });
      }
    }
  });

  // The tiny model is done before a person could stop it, and this one goes on from the default prompt for 128 tokens at least.
  test("stops between two steps, and goes on", async () => {
    const stopped = () => user.metric("vllm:request_success", { finished_reason: "abort" });
    const before = await stopped();
    await user.set({ speculation: "off", max_tokens: 480 });
    await page.click("#tab-prompt");
    await page.click("#run");
    await page.waitForFunction(() => document.getElementById("generated").textContent !== "");
    await page.click("#stop");
    await user.idle();
    expect(await user.text("#summary")).toMatch(/^Stopped after \d+ tokens\.$/);
    expect(await stopped()).toBe(before + 1);
    expect(await user.alertCode()).toBe(null);
    await user.set({ max_tokens: 8 });
    expect((await user.complete(await page.inputValue("#prompt"))).text).not.toBe("");
  });

  test("stops tuning", async () => {
    await page.fill("#tune-prompts", await page.inputValue("#prompt"));
    await page.fill("#tune-ks", "0, 3");
    await page.fill("#tune-tokens", "200");
    await page.click("#tune-run");
    await page.click("#tune-stop");
    await user.idle();
    expect(await user.text("#tune-status")).toBe("Stopped.");
    expect(await user.alertCode()).toBe(null);
  });

  test("can be used from the keyboard", async () => {
    await page.focus("#tab-prompt");
    await page.keyboard.press("ArrowRight");
    expect(await page.locator("#panel-chat").isVisible()).toBe(true);
    await page.keyboard.press("ArrowLeft");
    await user.set({ max_tokens: 200, speculation: "off" });
    const focused = () => page.evaluate(() => document.activeElement.id);
    await page.focus("#run");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement.id === "stop");
    await page.keyboard.press("Enter");
    await user.idle();
    expect(await focused()).toBe("run");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    expect(outline).toBe("solid");
  });
});

/** How many pixels of a chart have the colour of its data rather than that of its axes. */
function drawnPixels(id) {
  return page.$eval(`#${id} canvas`, (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let colored = 0;
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b, a] = data.slice(i, i + 4);
      if (a > 128 && Math.max(r, g, b) - Math.min(r, g, b) > 48) colored += 1;
    }
    return colored;
  });
}
