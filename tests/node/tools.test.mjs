// Calls of tools by Qwen2.5-Coder-0.5B, with OpenAI's own client: required, by name, two at once, answered; whole and streamed.
import Ajv from "ajv";
import { afterAll, beforeAll, expect, test } from "vitest";
import { clientOf, conversations, TIME, WEATHER } from "../support/tool-calls.mjs";
import { Llm } from "./harness.mjs";

let llm;
let client;
beforeAll(async () => {
  llm = await Llm.load({ model: process.env.EMBERGRAM_QWEN2, max_model_len: 1024 });
  client = clientOf(llm);
}, 300_000);
afterAll(() => llm?.unload());

const ajv = new Ajv();
/** The arguments of calls, each of them valid. */
const given = (calls) => calls.map(([type, name, text]) => {
  const { parameters } = [WEATHER, TIME].find((tool) => tool.function.name === name).function;
  const values = JSON.parse(text);
  expect([type, ajv.validate(parameters, values), ajv.errorsText()]).toEqual(["function", true, "No errors"]);
  return [name, values];
});
const run = (name) => conversations[name](client, llm.model.name);

test("a call that is required", async () => {
  const { whole, streamed, ends, pieces } = await run("required");
  expect(streamed).toEqual(whole);
  expect(ends).toEqual(["tool_calls", "tool_calls"]);
  expect(pieces).toBeGreaterThan(1);
  expect(given(whole.calls)).toEqual([["get_weather", { city: expect.stringMatching(/^zurich$/i), unit: "celsius" }]]);
}, 60_000);

test("a call by name, though another tool would fit better", async () => {
  const { whole, streamed, ends } = await run("named");
  expect(streamed).toEqual(whole);
  // As vLLM and OpenAI have it where the call was the caller's choice.
  expect(ends).toEqual(["stop", "stop"]);
  expect(given(whole.calls).map(([name]) => name)).toEqual(["get_time"]);
}, 60_000);

test("two calls at once", async () => {
  const { whole, streamed } = await run("parallel");
  expect(streamed).toEqual(whole);
  const calls = given(whole.calls);
  expect(calls.map(([name]) => name)).toEqual(["get_weather", "get_weather"]);
  expect(calls.map(([, { city }]) => city.toLowerCase())).toEqual(["paris", "rome"]);
}, 60_000);

test("the client runs the function, and the model answers with what it said", async () => {
  const { seen, roles, text, finish_reason } = await run("answered");
  expect(seen).toHaveLength(1);
  expect(roles).toEqual(["user", "assistant", "tool"]);
  expect(text).toContain("17");
  expect(finish_reason).toBe("stop");
}, 60_000);
