// A split GGUF, by address and as files: its tokens are those of the whole file.
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { syntheticModel } from "../../scripts/setup.mjs";
import { open } from "./harness.mjs";

let browser;
let parts;
beforeAll(async () => {
  const first = syntheticModel("tiny-split.gguf", ["--shape", "tiny", "--split", "8"], "tiny-split-00001-of-00003.gguf");
  const folder = dirname(first);
  parts = readdirSync(folder).filter((name) => name.startsWith("tiny-split-")).sort();
  browser = await open({ places: Object.fromEntries(parts.map((name) => [`/${name}`, join(folder, name)])) });
}, 300_000);
afterAll(() => browser?.close());

test("any part's address, or all files in any order", async () => {
  expect(parts).toHaveLength(3);
  const { whole, split, kept, missing } = await browser.page.evaluate(async (parts) => {
    const { Llm, modelCache } = globalThis.embergram;
    const tokens = async (model) => {
      const llm = await Llm.load({ model, max_model_len: 64 });
      const [{ outputs: [output] }] = await llm.generate("the light of the world", { temperature: 0, max_tokens: 16, ignore_eos: true });
      await llm.unload();
      return output.token_ids;
    };
    const files = await Promise.all(parts.map(async (name) => new File([await (await fetch(`/${name}`)).blob()], name)));
    const [first, second, third] = files;
    const whole = await tokens("/tiny.gguf");
    const split = [await tokens(`/${parts[0]}`), await tokens(`/${parts[2]}`), await tokens([third, first, second])];
    const kept = (await modelCache.list()).map(({ url }) => url.split("/").at(-1)).sort();
    const missing = await tokens([first, third]).catch(({ code, message }) => ({ code, message }));
    return { whole, split, kept, missing };
  }, parts);
  expect(split).toEqual([whole, whole, whole]);
  expect(kept).toEqual([...parts, "tiny.gguf"].sort());
  expect(missing).toMatchObject({ code: "invalid_config", message: expect.stringContaining("3") });
});
