// The grammars' module by itself, over a small vocabulary: what JavaScript and it say to each other.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import Ajv from "ajv/dist/2020.js";
import { expect, test } from "vitest";
import { dist } from "../../scripts/build.mjs";
import { Grammars } from "../../www/embergram/grammar.ts";
import { numbers, randomSchema } from "../support/schemas.mjs";

const grammar = new Blob([gzipSync(readFileSync(join(dist, "grammar.wasm")))]);
/** Bytes, then words, then a token that ends an output. */
const tokens = [...Array.from({ length: 256 }, (_, i) => Buffer.of(i)), ...["water", "light", '"name"', "<eos>"].map((text) => Buffer.from(text))];
const END = tokens.length - 1;

function vocabulary() {
  const numbers = [tokens.length, ...tokens.map((token, i) => token.length * 2 + Number(i === END)), 1, END];
  return new Uint8Array(Buffer.concat([Buffer.from(Uint32Array.from(numbers).buffer), ...tokens]));
}

/** The longest words first. */
function tokenize(bytes) {
  const ids = [];
  for (let rest = Buffer.from(bytes); rest.length > 0; rest = rest.subarray(tokens[ids.at(-1)].length)) {
    const fits = [...tokens.keys()].filter((id) => rest.subarray(0, tokens[id].length).equals(tokens[id]));
    ids.push(fits.reduce((best, id) => (tokens[id].length > tokens[best].length ? id : best)));
  }
  return Uint32Array.from(ids);
}

const open = (words = {}) => Grammars.open({ vocabulary, tokenize, free: () => {}, ...words }, { wasm: { grammar } });
const allowed = (grammars, handle) => {
  const words = grammars.mask(handle);
  return [...tokens.keys()].filter((id) => (words[id >> 5] >>> (id & 31)) & 1);
};
const text = (ids) => Buffer.concat([...ids].map((id) => tokens[id])).toString();

test("masks, forced tokens, drafts, copies, the end", async () => {
  const grammars = await open();
  const handle = grammars.compile(JSON.stringify({ regex: "[ab] water!" }));
  expect(allowed(grammars, handle)).toEqual([97, 98]);
  expect(grammars.forced(handle, 9)).toHaveLength(0);
  expect(grammars.validate(handle, Uint32Array.of(97, 32, 256, 33, 33))).toBe(4);
  const copy = grammars.copy(handle);
  grammars.commit(handle, 98);
  expect(text(grammars.forced(handle, 9))).toBe(" water!");
  expect([...grammars.forced(handle, 2)]).toEqual([32, 256]);
  expect(allowed(grammars, handle)).toEqual([32]);
  expect(allowed(grammars, copy)).toEqual([97, 98]);
  for (const id of [32, 256, 33]) grammars.commit(handle, id);
  expect(allowed(grammars, handle)).toEqual([END]);
  grammars.commit(handle, END);
  expect(grammars.mask(handle)).toHaveLength(0);
  grammars.free(handle);
  expect(() => grammars.mask(handle)).toThrow("there is no such grammar");
  expect(grammars.compile(JSON.stringify({ json: { type: "boolean" } }))).toBe(handle);
});

test("whatever is chosen of what is allowed fits the schema, as ajv sees it", async () => {
  const grammars = await open();
  const formats = { date: /^\d{4}-\d\d-\d\d$/, ipv4: /^\d+\.\d+\.\d+\.\d+$/, uuid: /^[0-9a-fA-F-]{36}$/ };
  const ajv = new Ajv({ strict: false, formats });
  let ended = 0;
  for (let seed = 0; seed < 200; seed++) {
    const schema = randomSchema(seed);
    const below = numbers(seed + 1000);
    const handle = grammars.compile(JSON.stringify({ json: schema, disable_any_whitespace: seed % 3 === 0 }));
    const said = [];
    while (said.at(-1) !== END && said.length < 600) {
      const forced = [...grammars.forced(handle, 4)];
      expect(grammars.validate(handle, Uint32Array.from(forced))).toBe(forced.length);
      const choices = allowed(grammars, handle);
      if (forced.length > 0) expect(choices).toEqual([forced[0]]);
      said.push(choices[below(choices.length)]);
      grammars.commit(handle, said.at(-1));
    }
    grammars.free(handle);
    if (said.pop() !== END) continue;
    ended += 1;
    const validate = ajv.compile(schema);
    expect(validate(JSON.parse(text(said))), `${text(said)} ${JSON.stringify(schema)} ${JSON.stringify(validate.errors)}`).toBe(true);
  }
  expect(ended).toBeGreaterThan(150);
});

test("refusals are messages, and the module goes on", async () => {
  const grammars = await open();
  const deep = Array.from({ length: 120 }).reduce((inner) => ({ type: "array", items: inner }), { type: "string" });
  const ring = { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } } };
  for (const [spec, words] of [
    [{ json: { uniqueItems: true } }, "uniqueItems"], [{ regex: "(" }, "regex"], [{ regex: `${"(".repeat(9e4)}` }, "brackets"],
    [{ json: ring }, "no token"], [{ regex: "((a{1000}){1000}){1000}" }, "1000000000 times"], [{ grammar: "a: \"b\"" }, "start"],
  ]) expect(() => grammars.compile(JSON.stringify(spec)), JSON.stringify(spec).slice(0, 80)).toThrow(words);
  const started = performance.now();
  const handle = grammars.compile(JSON.stringify({ json: deep }));
  expect(text(Uint32Array.of(allowed(grammars, handle)[0]))).toMatch(/\s|\[/);
  for (const spec of [{ regex: "(a{100}b?){100}" }, { regex: "(.*a){40}[ab]{200}(.*b){40}" }, { json: { type: "string", minLength: 1e9 } }]) {
    const handle = grammars.compile(JSON.stringify(spec));
    for (let i = 0; i < 20; i++) grammars.commit(handle, allowed(grammars, handle).at(-1));
  }
  console.log(`hostile grammars took ${Math.round(performance.now() - started)} ms`);
  expect(performance.now() - started).toBeLessThan(30_000);
  expect(grammars.dead).toBe(false);
});

test("a trap ends the instance, and says so", async () => {
  const broken = () => {
    throw new Error("the engine is gone");
  };
  let calls = 0;
  const grammars = await open({ tokenize: (bytes) => (calls++ > 2 ? broken() : tokenize(bytes)) });
  const handle = grammars.compile(JSON.stringify({ regex: "water light water light" }));
  expect(() => {
    for (let i = 0; i < 9; i++) grammars.forced(handle, 99);
  }).toThrow(expect.objectContaining({ code: "grammar_failed", message: expect.stringContaining("the engine is gone") }));
  expect(grammars.dead).toBe(true);
  expect(() => grammars.mask(handle)).toThrow(expect.objectContaining({ code: "grammar_failed" }));
  grammars.free(handle);
});
