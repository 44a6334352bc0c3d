// Outputs that fit, by the built package under Node: random schemas, whose outputs ajv looks at.
import Ajv from "ajv/dist/2020.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { randomSchema } from "../support/schemas.mjs";
import { counterValue, golden, Llm, refusal, TINY } from "./harness.mjs";

const ngram = { method: "ngram", num_speculative_tokens: 5, prompt_lookup_min: 1, prompt_lookup_max: 3 };
const ajv = new Ajv({ strict: false, formats: { date: /^\d{4}-\d\d-\d\d$/, ipv4: /^\d+\.\d+\.\d+\.\d+$/, uuid: /^[0-9a-fA-F-]{36}$/ } });

let llm;
beforeAll(async () => {
  llm = await Llm.load({ model: TINY, threads: 2, max_num_seqs: 8, seed: 5 });
});
afterAll(() => llm?.unload());

async function steps(work) {
  const count = async () => (await llm.getMetrics()).find(({ name }) => name === "embergram:step_time_seconds").count;
  const before = await count();
  return [await work(), (await count()) - before];
}

test("outputs of 200 random schemas fit, with speculation and without, and ask for fewer steps than they have tokens", async () => {
  const schemas = Array.from({ length: 200 }, (_, i) => randomSchema(i));
  const params = schemas.map((json, i) => ({ temperature: i % 4 === 3 ? 0 : 1, seed: i, max_tokens: 400, structured_outputs: { json, disable_any_whitespace: i % 3 === 0 } }));
  const prompts = schemas.map((_, i) => `the water ${i}`);
  const before = counterValue(await llm.getMetrics(), "embergram:forced_tokens");
  const [plain, few] = await steps(() => llm.generate(prompts, params));
  await llm.setSpeculativeConfig(ngram);
  const guessed = await llm.generate(prompts, params);
  await llm.setSpeculativeConfig(null);
  const ids = (outputs) => outputs.map(({ outputs: [{ token_ids }] }) => token_ids);
  expect(ids(guessed)).toEqual(ids(plain));
  let finished = 0;
  plain.forEach(({ outputs: [{ text, finish_reason }] }, i) => {
    if (finish_reason === "length") return;
    expect(finish_reason).toBe("stop");
    const validate = ajv.compile(schemas[i]);
    expect(validate(JSON.parse(text)), `${text} ${JSON.stringify(schemas[i])} ${JSON.stringify(validate.errors)}`).toBe(true);
    finished += 1;
  });
  expect(finished).toBeGreaterThan(160);
  const forcedOf = (outputs) => outputs.reduce((sum, { metrics }) => sum + metrics.num_forced_tokens, 0);
  const forced = forcedOf(plain);
  const made = plain.reduce((sum, { metrics }) => sum + metrics.num_generation_tokens, 0);
  expect(counterValue(await llm.getMetrics(), "embergram:forced_tokens") - before).toBe(forced + forcedOf(guessed));
  console.log(`${finished} of 200 finished; ${made} tokens, ${forced} forced, ${few} steps of up to 8 sequences`);
  expect(forced).toBeGreaterThan(made / 10);
});

test("keys come in the schema's order", async () => {
  const json = { type: "object", properties: { z: { const: 1 }, a: { const: 2 }, m: { const: 3 } }, required: ["a", "m", "z"], additionalProperties: false };
  const [{ outputs: [{ text }] }] = await llm.generate("the", { max_tokens: 60, temperature: 0, structured_outputs: { json, disable_any_whitespace: true } });
  expect(text).toBe('{"z":1,"a":2,"m":3}');
});

test("the door takes response_format and structured_outputs, and tells deltas of forced tokens", async () => {
  const messages = [{ role: "user", content: "the water" }];
  const schema = { type: "object", properties: { n: { type: "integer", minimum: 1, maximum: 9 } }, required: ["n"], additionalProperties: false };
  const formats = [
    { response_format: { type: "json_schema", json_schema: { name: "n", strict: true, schema } } },
    { structured_outputs: { choice: ["water", "light"] } },
    { response_format: { type: "json_object" } },
  ];
  const texts = await Promise.all(formats.map(async (format) => {
    const { choices: [choice] } = await llm.chat.completions.create({ messages, temperature: 1, seed: 3, max_tokens: 200, ...format });
    return [choice.message.content, choice.finish_reason];
  }));
  expect(JSON.parse(texts[0][0]).n).toBeGreaterThan(0);
  expect(texts[1]).toEqual([expect.stringMatching(/^(water|light)$/), "stop"]);
  if (texts[2][1] === "stop") expect(JSON.parse(texts[2][0])).toBeTypeOf("object");
  const deltas = [];
  for await (const delta of llm.stream("the", { max_tokens: 40, structured_outputs: { regex: "(a|b) the water under the light" } })) deltas.push(delta);
  const forced = deltas.flatMap(({ forced }) => forced);
  expect(forced.length).toBe(deltas.flatMap(({ token_ids }) => token_ids).length);
  expect(forced.filter(Boolean).length).toBeGreaterThan(3);
  expect(deltas.length).toBeLessThan(forced.length);
});

test("what cannot be is refused by name, and calls go on", async () => {
  const structured = (structured_outputs) => refusal(llm.generate("the", { max_tokens: 4, structured_outputs }));
  const body = (more) => refusal(llm.chat.completions.create({ messages: [{ role: "user", content: "a" }], max_tokens: 4, ...more }));
  const wrong = (words) => ({ code: "invalid_params", message: expect.stringContaining(words) });
  expect(await structured({ json: { type: "array", uniqueItems: true } })).toMatchObject(wrong("uniqueItems"));
  expect(await structured({ json: {}, regex: "a" })).toMatchObject(wrong("exactly one"));
  expect(await structured({ regex: "(" })).toMatchObject(wrong("structured_outputs cannot be used"));
  expect(await body({ guided_json: {} })).toMatchObject(wrong("guided_json"));
  expect(await body({ response_format: { type: "xml" } })).toMatchObject(wrong("response_format"));
  // Hostile ones end soon, and the module goes on or is replaced.
  const deep = "(".repeat(60) + "a" + ")".repeat(60);
  for (const hostile of [
    { regex: "((a{1000}){1000}){1000}" }, { regex: "(".repeat(50_000) }, { grammar: `start: ${"(".repeat(50_000)}` },
    { json: Array.from({ length: 120 }).reduce((inner) => ({ type: "array", items: inner }), { type: "string" }) },
    { grammar: `start: r0\n${Array.from({ length: 40 }, (_, i) => `r${i}: r${i + 1} r${i + 1}\n`).join("")}r40: "a"` },
    { json: { allOf: Array.from({ length: 12 }, (_, i) => ({ anyOf: Array.from({ length: 12 }, (_, j) => ({ type: "object", properties: { [`p${i}_${j}`]: { type: "string" } } })) })) } },
    { regex: deep },
  ]) {
    const started = performance.now();
    const error = await structured(hostile);
    expect([undefined, "invalid_params", "grammar_failed"]).toContain(error?.code);
    expect(performance.now() - started).toBeLessThan(30_000);
  }
  const [{ outputs: [{ text }] }] = await llm.generate("the", { max_tokens: 9, structured_outputs: { choice: ["water"] } });
  expect(text).toBe("water");
});

test("an abort while a grammar compiles ends the call, and others go on", async () => {
  const wide = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`key${i}`, { type: "string", maxLength: i + 1 }]));
  const abort = new AbortController();
  const call = refusal(llm.generate("the", { max_tokens: 200, structured_outputs: { json: { type: "object", properties: wide } } }, { signal: abort.signal }));
  const other = llm.generate("the", { max_tokens: 20, structured_outputs: { choice: ["the light"] } });
  abort.abort();
  expect(await call).toMatchObject({ code: "aborted" });
  expect((await other)[0].outputs[0].text).toBe("the light");
});

test("the recorded structured requests of vLLM's server", async () => {
  const model = process.env.EMBERGRAM_QWEN2;
  const qwen = await Llm.load({ model, max_model_len: 512, speculative_config: { ...ngram, prompt_lookup_min: 2, prompt_lookup_max: 4 } });
  try {
    for (const name of ["structured choice", "structured regex", "json object", "json schema"]) {
      const { request, response } = golden("vllm_server.json").exchanges.find((exchange) => exchange.name === name);
      const parse = (value) => (typeof value === "string" ? JSON.parse(value) : value);
      const { model: _, ...body } = parse(request.body);
      const { choices: [choice] } = await qwen.chat.completions.create(body);
      const [recorded] = parse(response.body).choices;
      expect([name, choice.message.content, choice.finish_reason]).toEqual([name, recorded.message.content, recorded.finish_reason]);
    }
  } finally {
    await qwen.unload();
  }
});
