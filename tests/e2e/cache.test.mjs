// The cache by hand, in a page: a model is brought, found whole, and loaded when its server is gone.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve } from "../support/server.mjs";
import { helpers, open } from "./harness.mjs";

const bytes = readFileSync(process.env.EMBERGRAM_TINY_MODEL);
let browser;
let server;
beforeAll(async () => {
  browser = await open();
  server = await serve({ headers: { "access-control-allow-origin": "*", "access-control-expose-headers": "*" } });
  server.file("/tiny.gguf", bytes);
  await browser.page.evaluate(helpers);
}, 120_000);
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

test("download, has, persist", async () => {
  const model = `${server.origin}/tiny.gguf`;
  const got = await browser.page.evaluate(async (model) => {
    const { modelCache } = embergram;
    const phases = new Set();
    const before = await modelCache.has(model);
    const stop = new AbortController();
    const aborted = await settled(modelCache.download(model, { signal: stop.signal, fetch: (url, init) => (stop.abort(), fetch(url, init)) }));
    const none = await settled(modelCache.download(model.replace("tiny", "none")));
    const wrong = await settled(modelCache.download(model, { sha256: "0".repeat(64) }));
    const bytes = await modelCache.download(model, { onProgress: ({ phase }) => phases.add(phase) });
    return { before, aborted, none, wrong, bytes, after: await modelCache.has(model), phases: [...phases], persist: typeof (await modelCache.persist()) };
  }, model);
  expect(got).toMatchObject({
    before: false, bytes: bytes.length, after: true, phases: ["download"], persist: "boolean",
    aborted: { error: { name: "AbortError", code: "aborted" } }, none: { error: { code: "http" } }, wrong: { error: { code: "invalid_file" } },
  });
  server.fault("/tiny.gguf", () => ({ status: 503 }));
  const tokens = await browser.page.evaluate(async (model) => {
    const llm = await embergram.Llm.load({ model, max_model_len: 64, backend: "cpu" });
    const [{ outputs }] = await llm.generate("the", { max_tokens: 4, ignore_eos: true });
    await llm.unload();
    await embergram.modelCache.delete(model);
    return { tokens: outputs[0].token_ids.length, there: await embergram.modelCache.has(model) };
  }, model);
  expect(tokens).toEqual({ tokens: 4, there: false });
});
