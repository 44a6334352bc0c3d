// `logits_processors`: functions of the caller's, which run in the caller's own thread.
import { afterAll, beforeAll, expect, test } from "vitest";
import { Llm, refusal, TINY } from "./harness.mjs";

let llm;
const prompt = [300, 301, 300, 301];
const params = { max_tokens: 24, temperature: 0, ignore_eos: true, logprobs: 1 };
beforeAll(async () => {
  const speculative_config = { method: "ngram", num_speculative_tokens: 3, prompt_lookup_min: 1, prompt_lookup_max: 3 };
  llm = await Llm.load({ model: TINY, max_model_len: 64, speculative_config });
}, 60_000);
afterAll(() => llm?.unload());

const thirds = (_, logits) => logits.fill(-Infinity).map((old, id) => (id % 3 === 0 ? 0 : old));

test("they get ids and logits, and change what is sampled: in place, by what they return, by a promise", async () => {
  const seen = [];
  const inPlace = (ids, logits, promptIds) => {
    seen.push([...ids]);
    expect([...promptIds]).toEqual(prompt);
    logits.forEach((logit, id) => id % 3 !== 0 && (logits[id] = -Infinity));
  };
  const [plain] = await llm.generate(prompt, params);
  const [first] = await llm.generate(prompt, { ...params, logits_processors: [inPlace] });
  const ids = first.outputs[0].token_ids;
  expect(ids).toHaveLength(24);
  expect(ids.every((id) => id % 3 === 0)).toBe(true);
  expect(first.outputs[0].logprobs[0].find(({ rank }) => rank === 1)).toEqual(plain.outputs[0].logprobs[0].find(({ rank }) => rank === 1));
  // Every token of the output had its row, and rows of drafts were shown too.
  for (let i = 0; i < 24; i++) expect(seen).toContainEqual(ids.slice(0, i));
  const returned = async (_, logits) => logits.map((logit, id) => (id % 3 === 0 ? logit : -Infinity));
  const streamed = [];
  for await (const { token_ids } of llm.stream(prompt, { ...params, logits_processors: [async () => {}, returned] })) streamed.push(...token_ids);
  expect(streamed).toEqual(ids);
});

test("each prompt has its own, and others none", async () => {
  const all = await llm.generate([prompt, prompt], [{ ...params, logits_processors: [thirds] }, params]);
  const [[processed], [plain]] = all.map(({ outputs }) => outputs).map(([{ token_ids }]) => [token_ids]);
  expect(processed).toEqual(Array(24).fill(0));
  expect(plain).toEqual((await llm.generate(prompt, params))[0].outputs[0].token_ids);
});

test("one that throws, or gives something else, ends its output alone; what is no function is refused", async () => {
  const fails = (error) => (ids) => {
    if (ids.length >= 3) throw error;
  };
  const outputs = await llm.generate([prompt, prompt, prompt], [
    { ...params, logits_processors: [fails(new Error("I do not like it"))] }, params, { ...params, logits_processors: [() => [1, 2, 3]] },
  ]);
  const told = outputs.map(({ outputs: [{ finish_reason, token_ids, error }] }) => [finish_reason, token_ids.length, error?.message]);
  expect(told).toEqual([
    ["error", 3, expect.stringContaining("I do not like it")], ["length", 24, undefined],
    ["error", 0, expect.stringContaining("no Float32Array of")],
  ]);
  expect(await refusal(llm.generate(prompt, { ...params, logits_processors: thirds }))).toMatchObject({ code: "invalid_params", message: expect.stringContaining("list of functions") });
});
