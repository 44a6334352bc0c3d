// In a page: the clients over `llm.fetch`, their real packages bundled; and `Llm.connect` to servers of other origins.
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { root } from "../../scripts/setup.mjs";
import { exchange, recordedServer } from "../support/recorded-server.mjs";
import { helpers, open } from "./harness.mjs";

let folder;
let browser;
let page;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "embergram-clients-"));
  const outfile = join(folder, "clients.js");
  await build({ entryPoints: [join(root, "tests/support/clients.mjs")], bundle: true, format: "esm", platform: "browser", target: "es2022", outfile, minify: true });
  browser = await open({ places: { "/clients.js": outfile }, isolated: false });
  page = browser.page;
  await page.evaluate(helpers);
  await page.addScriptTag({ type: "module", content: 'import { clients } from "/clients.js"; globalThis.clients = clients;' });
  await page.waitForFunction("globalThis.clients");
  await page.evaluate(async () => {
    globalThis.llm = await embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 512, backend: "cpu" });
  });
}, 300_000);
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

test.each(["openai", "ai", "langchain", "agents"])("%s", async (name) => {
  const { text, got } = await page.evaluate(async (name) => {
    const [{ outputs }] = await llm.chat([{ role: "user", content: "Say hello." }], { max_tokens: 12, temperature: 0 });
    return { text: outputs[0].text, got: await clients[name](llm) };
  }, name);
  expect(text).not.toBe("");
  expect(got).toMatchObject({ whole: text, streamed: text });
  expect(got.refused.message).toContain("temperature must be in [0, 2], got 5.0.");
  if (name !== "agents") {
    for (const made of [got.object, got.call]) {
      expect(made).toEqual({ greeting: expect.stringMatching(/^(hello|hi)$/), loud: expect.any(Boolean) });
    }
  }
  if (got.aborted) {
    expect(got.aborted.text).not.toBe("");
    expect(got.aborted.text.length).toBeLessThan(1500);
  }
});

describe("Llm.connect from a page", () => {
  const { messages } = exchange("chat").request.body;
  const ask = (url, options = {}) => page.evaluate(([url, options, messages]) => settled((async () => {
    const llm = await embergram.Llm.connect(url, options);
    const [{ outputs }] = await llm.chat(messages, { temperature: 0, max_tokens: 48 });
    const { num_draft_tokens } = embergram.speculationStats(await llm.getMetrics());
    return { text: outputs[0].text, num_draft_tokens };
  })()), [url, options, messages]);

  test("a server that lets it", async () => {
    const server = await recordedServer({ key: "right", allow: "*" });
    const text = JSON.parse(exchange("chat").response.body).choices[0].message.content;
    expect(await ask(server.origin, { apiKey: "right" })).toEqual({ value: { text, num_draft_tokens: 273 } });
    expect((await ask(server.origin, { apiKey: "wrong" })).error.code).toBe("unauthorized");
    server.close();
  });

  test("CORS and a wrong address are told apart", async () => {
    const silent = await recordedServer();
    const { error } = await ask(silent.origin.replace("127.0.0.1", "localhost"));
    expect(error).toMatchObject({ code: "cors", message: expect.stringContaining("Access-Control-Allow-Origin: http://127.0.0.1:") });
    silent.close();
    const gone = createServer().listen(0, "127.0.0.1");
    await once(gone, "listening");
    const { port } = gone.address();
    gone.close();
    expect((await ask(`http://127.0.0.1:${port}`)).error.code).toBe("network");
  });
});
