// A model that its header refuses: the download ends there, and what is kept of it is not called complete.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve } from "../support/server.mjs";
import { helpers, open } from "./harness.mjs";

const SIZE = 48_000_000;
const RATE = 16_000_000;
const tiny = readFileSync(process.env.EMBERGRAM_TINY_MODEL);
const cors = { "access-control-allow-origin": "*", "access-control-allow-headers": "*", "access-control-expose-headers": "content-length, content-range, accept-ranges, etag" };
let browser;
let models;
beforeAll(async () => {
  [browser, models] = await Promise.all([open(), serve({ headers: cors })]);
  await browser.page.evaluate(helpers);
}, 300_000);
afterAll(async () => {
  await browser?.close();
  await models?.close();
});

/** The tiny model as a long file, this value in place of that one, of the same length. */
function long(from, to) {
  const bytes = Buffer.alloc(SIZE);
  tiny.copy(bytes);
  const at = bytes.indexOf(from);
  expect(at).toBeGreaterThan(0);
  bytes.write(to, at);
  return bytes;
}

test.each([
  ["a tokenizer of another family", ["gpt2", "bert"], {}, "unsupported_model", "bert"],
  ["another way to cut words", ["smollm", "murmur"], {}, "unsupported_model", "murmur"],
  ["a tensor under another name", ["blk.1.attn_q.weight", "blk.1.attn_q.biases"], {}, "invalid_tensor", "attn_q"],
  ["a length beyond the model's", ["gpt2", "gpt2"], { max_model_len: 100_000 }, "invalid_config", "max_model_len"],
  ["a cache without a block", ["gpt2", "gpt2"], { kv_cache_memory_bytes: 1 }, "invalid_config", "kv_cache_memory_bytes"],
])("%s", async (name, [from, to], options, code, says) => {
  const path = `/${name.replaceAll(/\W/g, "-")}.gguf`;
  models.file(path, long(from, to));
  models.fault(path, () => ({ rate: RATE }));
  const url = models.origin + path;
  const { error, kept } = await browser.page.evaluate(async ([model, options]) => {
    const { error } = await settled(embergram.Llm.load({ model, ...options }));
    return { error, kept: (await embergram.modelCache.list()).find(({ url }) => url === model) };
  }, [url, options]);
  expect(error).toMatchObject({ code, message: expect.stringContaining(says) });
  expect(kept?.complete ?? false).toBe(false);
  expect(models.of(path).reduce((sum, { sent }) => sum + sent, 0)).toBeLessThan(SIZE / 2);
}, 60_000);
