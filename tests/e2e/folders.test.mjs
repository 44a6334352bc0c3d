// Hugging Face folders without conversion: whole and in shards, by address, from a hub, as files. The tokens are those that
// transformers recorded (tests/golden/models).
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { root } from "../../scripts/setup.mjs";
import { hfFolder } from "../support/hf-folder.mjs";
import { hub } from "../support/hub.mjs";
import { serve } from "../support/server.mjs";
import { helpers, open } from "./harness.mjs";

const MODELS = readdirSync(join(root, "tests/golden/models"), { withFileTypes: true }).filter((e) => e.isDirectory()).map(({ name }) => name);
const golden = Object.fromEntries(MODELS.map((name) => [name, JSON.parse(readFileSync(join(root, `tests/golden/models/${name}/golden.json`), "utf8"))]));
const prompt = (name) => golden[name].token_ids.slice(0, 12);
const recorded = (name) => golden[name].greedy_from_first_12.slice(12);

const shards = hfFolder("llama3", { shards: 3 });
let browser;
let page;
let server;
beforeAll(async () => {
  const places = Object.fromEntries(MODELS.map((name) => [`/${name}/`, hfFolder(name)]));
  [browser, server] = await Promise.all([open({ places: { ...places, "/shards/": shards } }), serve()]);
  page = browser.page;
  await page.evaluate(helpers);
  await page.evaluate(() => {
    globalThis.tokens = async (options, prompt) => {
      const llm = await embergram.Llm.load({ max_model_len: 64, ...options });
      const [{ outputs: [output] }] = await llm.generate(prompt, { temperature: 0, max_tokens: 32, ignore_eos: true });
      const bytes = embergram.gaugeValue(await llm.getMetrics(), "embergram:gpu_memory_bytes");
      const { name, has_chat_template } = llm.model;
      await llm.unload();
      return { name, has_chat_template, token_ids: output.token_ids, bytes };
    };
  });
}, 300_000);
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

const tokens = (options, prompt) => page.evaluate(([options, prompt]) => tokens(options, prompt), [options, prompt]);

// What WebGPU makes of the others crate/tests/architectures.rs sees.
const cases = [...MODELS.map((name) => [name, "cpu"]), ["gemma3", "webgpu"]];
test.each(cases)("%s by its address, on %s", async (name, backend) => {
  const got = await tokens({ model: `/${name}/`, backend }, prompt(name));
  expect(got).toMatchObject({ name, has_chat_template: true, token_ids: recorded(name) });
});

test("in shards, by its address and from a hub", async () => {
  expect((await tokens({ model: "/shards/" }, prompt("llama3"))).token_ids).toEqual(recorded("llama3"));
  const names = readdirSync(shards).filter((name) => name.includes("."));
  hub(server, "some/model", Object.fromEntries(names.map((name) => [name, readFileSync(join(shards, name))])));
  const got = await tokens({ model: "hf:some/model", hfEndpoint: server.origin }, prompt("llama3"));
  expect(got).toMatchObject({ name: "some/model", token_ids: recorded("llama3") });
});

test("chosen files, and what they become while they load", async () => {
  await page.setContent('<input id="folder" type="file" webkitdirectory />');
  await page.setInputFiles("#folder", shards);
  const chosen = (options) => page.evaluate(
    ([options, prompt]) => tokens({ model: document.getElementById("folder").files, ...options }, prompt), [options, prompt("llama3")],
  );
  const plain = await chosen({});
  expect(plain).toMatchObject({ name: "llama3", token_ids: recorded("llama3") });
  const smaller = await chosen({ quantization: "q8_0" });
  expect(smaller.bytes).toBeLessThan(plain.bytes);
  expect(smaller.token_ids).toHaveLength(32);
});

test("what is wrong with a folder is said", async () => {
  const errors = await page.evaluate(async () => {
    const file = (name, text) => new File([text], name);
    const refused = async (options) => (await settled(embergram.Llm.load(options))).error;
    const config = await (await fetch("/llama3/config.json")).text();
    const weights = new File([await (await fetch("/llama3/model.safetensors")).blob()], "model.safetensors");
    return [
      await refused({ model: [file("config.json", "{"), weights] }),
      await refused({ model: [file("config.json", config), weights] }),
      await refused({ model: [file("config.json", config.replace('"llama"', '"bloom"')), weights] }),
      await refused({ model: "/llama3/", quantization: "q3_k" }),
      await refused({ model: [] }),
      await refused({ model: "/nowhere/" }),
    ].map(({ code, message }) => [code, message]);
  });
  expect(errors).toEqual([
    ["invalid_file", expect.stringContaining("config.json is no JSON")],
    ["invalid_file", expect.stringContaining("no tokenizer.json")],
    ["unsupported_model", expect.stringContaining("bloom")],
    ["invalid_config", expect.stringContaining("quantization")],
    ["invalid_config", expect.stringContaining("model is missing")],
    ["unsupported_model", expect.stringContaining("model.safetensors")],
  ]);
});
