// `embergram/here`: the engine in service workers, which can neither start workers nor import anything once they run.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch } from "../../scripts/browser.mjs";
import { dist } from "../../scripts/build.mjs";
import { root } from "../../scripts/setup.mjs";
import { serve } from "../support/server.mjs";

/** A module that has `run(options)`, with what it imports from. */
const worker = (from) => `
  import { Llm } from "${from}";
  globalThis.run = async (options) => {
    try {
      const llm = await Llm.load({ model: new URL("tiny.gguf", location.href).href, max_model_len: 64, ...options });
      const [{ outputs: [{ token_ids }] }] = await llm.generate("the", { max_tokens: 6, temperature: 0, ignore_eos: true });
      await llm.unload();
      return { token_ids, name: llm.model.name, adapter: llm.model.adapter };
    } catch ({ code, message }) {
      return { code, message };
    }
  };
  addEventListener("message", (event) => event.waitUntil(run(event.data).then((got) => event.ports[0].postMessage(got))));`;
const tiny = process.env.EMBERGRAM_TINY_MODEL;
const whole = { token_ids: expect.any(Array), name: "random tiny", adapter: expect.objectContaining({ backend: "cpu", threads: 1 }) };

let context;
let server;
let folder;
beforeAll(async () => {
  server = await serve({ root: dist });
  server.file("/", Buffer.from("<!doctype html><title>test</title>"), { "content-type": "text/html" });
  server.file("/tiny.gguf", readFileSync(tiny));
  for (const name of ["here", "index"]) {
    server.file(`/${name}/sw.js`, Buffer.from(worker(`/${name}.js`)), { "content-type": "text/javascript" });
    server.file(`/${name}/tiny.gguf`, readFileSync(tiny));
  }
  folder = mkdtempSync(join(tmpdir(), "embergram-extension-"));
  for (const name of ["here.js", "engine_bg.wasm", "kernels.wasm", "kernels_relaxed.wasm"]) cpSync(join(dist, name), join(folder, name));
  cpSync(tiny, join(folder, "tiny.gguf"));
  writeFileSync(join(folder, "sw.js"), worker("./here.js"));
  writeFileSync(join(folder, "manifest.json"), JSON.stringify({
    manifest_version: 3, name: "embergram", version: "1", background: { service_worker: "sw.js", type: "module" },
    content_security_policy: { extension_pages: "script-src 'self' 'wasm-unsafe-eval'; object-src 'self'" },
  }));
  const args = [`--disable-extensions-except=${folder}`, `--load-extension=${folder}`, "--disable-features=DisableLoadExtensionCommandLineSwitch"];
  context = await launch({ args, ignoreDefaultArgs: ["--disable-extensions"] });
});
afterAll(async () => {
  await context?.close();
  await server?.close();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Runs in a page: what the service worker of a folder answers. */
async function ask([folder, options]) {
  const { installing, waiting, active } = await navigator.serviceWorker.register(`/${folder}/sw.js`, { type: "module" });
  const worker = installing ?? waiting ?? active;
  const { port1, port2 } = new MessageChannel();
  const answer = new Promise((done) => (port1.onmessage = ({ data }) => done(data)));
  worker.postMessage(options, [port2]);
  return answer;
}

test("a service worker runs a model", async () => {
  const page = await context.newPage();
  await page.goto(server.origin);
  const got = await page.evaluate(ask, ["here", {}]);
  expect(got).toEqual(whole);
  expect(await page.evaluate(ask, ["here", { backend: "webgpu" }])).toMatchObject({ token_ids: got.token_ids, adapter: { backend: "webgpu" } });
  const asked = await page.evaluate(ask, ["here", { worker: true }]);
  expect(asked).toMatchObject({ code: "invalid_config", message: expect.stringContaining("import embergram") });
  // The package's main entry cannot, and names the one that can.
  for (const options of [{}, { worker: false }]) {
    const refused = await page.evaluate(ask, ["index", options]);
    expect(refused).toMatchObject({ code: "invalid_config", message: expect.stringContaining("embergram/here") });
  }
  await page.close();
});

test("a service worker answers a page's requests as a server would", async () => {
  // What docs/openai.md shows, with the model loaded when it is first asked for.
  const [, snippet] = /addEventListener\("fetch"[^]*?```/.exec(readFileSync(join(root, "docs/openai.md"), "utf8"))[0].match(/([^]*?)\n```/);
  server.file("/door/sw.js", Buffer.from(`
    import { Llm } from "/here.js";
    let loading;
    const llm = { fetch: async (request) => (await (loading ??= Llm.load({ model: new URL("/tiny.gguf", location.href).href, max_model_len: 128 }))).fetch(request) };
    addEventListener("activate", (event) => event.waitUntil(clients.claim()));
    ${snippet}`), { "content-type": "text/javascript" });
  server.file("/door/", Buffer.from("<!doctype html><title>door</title>"), { "content-type": "text/html" });
  const page = await context.newPage();
  await page.goto(`${server.origin}/door/`);
  const got = await page.evaluate(async () => {
    await navigator.serviceWorker.register("/door/sw.js", { type: "module" });
    await new Promise((done) => (navigator.serviceWorker.controller ? done() : navigator.serviceWorker.addEventListener("controllerchange", done)));
    const post = (body, signal) => fetch("/v1/chat/completions", {
      method: "POST", signal, headers: { "content-type": "application/json" },
      body: JSON.stringify({ messages: [{ role: "user", content: "the" }], temperature: 0, max_tokens: 6, ignore_eos: true, ...body }),
    });
    const whole = await (await post({})).json();
    const streamed = await (await post({ stream: true })).text();
    const stop = new AbortController();
    const cut = post({ max_tokens: 90, stream: true }, stop.signal).then(async (response) => {
      const reader = response.body.getReader();
      await reader.read();
      stop.abort();
      for (;;) if ((await reader.read()).done) return "no error";
    }).catch(({ name }) => name);
    const aborted = await cut;
    return { whole, streamed, aborted, refused: (await post({ temperature: 9 })).status, elsewhere: (await fetch("/tiny.gguf", { method: "HEAD" })).status };
  });
  const chunks = got.streamed.trim().split("\n\n").slice(0, -1).map((line) => JSON.parse(line.slice("data: ".length)));
  expect(chunks.map(({ choices }) => choices[0].delta.content ?? "").join("")).toBe(got.whole.choices[0].message.content);
  expect(got).toMatchObject({ whole: { object: "chat.completion", usage: { completion_tokens: 6 } }, aborted: "AbortError", refused: 400, elsewhere: 200 });
  await page.close();
});

test("so does the background of an extension", async () => {
  const background = context.serviceWorkers().find((w) => w.url().startsWith("chrome-extension:")) ?? (await context.waitForEvent("serviceworker"));
  expect(await background.evaluate(() => globalThis.run({}))).toEqual(whole);
});
