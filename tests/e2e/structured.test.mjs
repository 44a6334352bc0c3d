// Outputs that fit, in a real Chromium: each kind of grammar, the module that is fetched when it is needed, both backends.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dist } from "../../scripts/build.mjs";
import { serve } from "../support/server.mjs";
import { helpers, open } from "./harness.mjs";

let browser;
let server;
let page;
beforeAll(async () => {
  [browser, server] = await Promise.all([open(), serve({ root: dist })]);
  server.file("/", Buffer.from("<!doctype html><title>test</title>"), { "content-type": "text/html" });
  server.file("/tiny.gguf", readFileSync(process.env.EMBERGRAM_TINY_MODEL));
  page = await browser.context.newPage();
  await page.goto(server.origin);
  // As text: vitest would rewrite the import.
  await page.evaluate(`import("/index.js").then((embergram) => (globalThis.embergram = embergram))`);
  await page.evaluate(helpers);
  await page.evaluate(async () => {
    const load = (backend) => embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 256, max_num_seqs: 4, cache: false, backend });
    globalThis.llms = { cpu: await load("cpu"), webgpu: await load("webgpu") };
  });
}, 300_000);
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

test("the module is fetched by the first request that has a grammar", async () => {
  const fetched = () => server.of("/grammar.wasm").length;
  await page.evaluate(() => llms.cpu.generate("the", { max_tokens: 4 }));
  expect(fetched()).toBe(0);
  const one = () => page.evaluate(async () => (await llms.cpu.generate("the", { max_tokens: 9, structured_outputs: { choice: ["water"] } }))[0].outputs[0].text);
  expect([await one(), await one()]).toEqual(["water", "water"]);
  expect(fetched()).toBe(1);
});

const kinds = {
  regex: [{ regex: "(the|water) [0-9]{3}" }, /^(the|water) [0-9]{3}$/],
  choice: [{ choice: ["the light", "größe"] }, /^(the light|größe)$/],
  lark: [{ grammar: 'start: N (" + " N){2}\nN: /[1-9][0-9]?/' }, /^\d+ \+ \d+ \+ \d+$/],
  json: [{ json: { type: "object", properties: { a: { type: "boolean" }, b: { enum: ["x", "y"] } }, required: ["a", "b"], additionalProperties: false }, disable_any_whitespace: true }, /^\{"a":(true|false),"b":"[xy]"\}$/],
  tags: [{ structural_tag: { triggers: ["<"], structures: [{ begin: "<t>", schema: { const: { n: 1 } }, end: "</t>" }] } }, /^[^<]*(<t>\{\s*"n"\s*:\s*1\s*\}<\/t>[^<]*)*$/],
};

test.each(Object.keys(kinds))("%s", async (kind) => {
  const [structured_outputs, pattern] = kinds[kind];
  const outcomes = await page.evaluate(async ({ structured_outputs, tags }) => {
    const outcomes = [];
    for (const llm of Object.values(llms)) {
      const less = (await llm.tokenize("<")).at(-1);
      const params = { max_tokens: 60, temperature: 1, structured_outputs, logit_bias: tags ? { [less]: 12 } : null };
      const seeds = [1, 2, 3].map((seed) => ({ ...params, seed }));
      const of = (requests) => requests.map(({ outputs: [{ text, token_ids, finish_reason }] }) => ({ text, token_ids, finish_reason }));
      const plain = of(await llm.generate(["the", "water", "light"], seeds));
      await llm.setSpeculativeConfig({ method: "ngram", num_speculative_tokens: 4, prompt_lookup_min: 1, prompt_lookup_max: 3 });
      const guessed = of(await llm.generate(["the", "water", "light"], seeds));
      await llm.setSpeculativeConfig(null);
      const greedy = of(await llm.generate("the", { ...params, temperature: 0 }));
      outcomes.push({ plain, guessed, greedy });
    }
    return outcomes;
  }, { structured_outputs, tags: kind === "tags" });
  for (const { plain, guessed, greedy } of outcomes) {
    expect(guessed).toEqual(plain);
    for (const { text, finish_reason } of [...plain, ...greedy]) {
      if (finish_reason === "stop") expect(text).toMatch(pattern);
      else expect([finish_reason, kind]).toEqual(["length", "tags"]);
    }
  }
  expect(outcomes[1].greedy).toEqual(outcomes[0].greedy);
});

test("a module that is not there is an error of the call, and of no other", async () => {
  server.fault("/grammar.wasm", () => ({ status: 404 }));
  const outcome = await page.evaluate(async () => {
    const llm = await embergram.Llm.load({ model: "/tiny.gguf", max_model_len: 64, cache: false, backend: "cpu" });
    const constrained = () => settled(llm.generate("the", { max_tokens: 9, structured_outputs: { choice: ["water"] } }));
    const refused = await constrained();
    const other = await settled(llm.generate("the", { max_tokens: 3 }));
    globalThis.third = llm;
    return { refused, other };
  });
  expect(outcome.refused.error).toMatchObject({ code: "http", message: expect.stringContaining("grammar.wasm") });
  expect(outcome.other.value[0].outputs[0].token_ids).toHaveLength(3);
  server.fault("/grammar.wasm");
  const text = await page.evaluate(async () => (await third.generate("the", { max_tokens: 9, structured_outputs: { choice: ["water"] } }))[0].outputs[0].text);
  expect(text).toBe("water");
});
