// Which part of a streamed text came from which token.
import { expect, test } from "vitest";
import { FORCED, TokenText } from "../../www/demo/src/token-text.js";

const token = (text: string, position = -1) => ({ text, position });

test("each token's text keeps its position", () => {
  const text = new TokenText();
  expect(text.push(" the river house", [token(" the"), token(" river", 0), token(" house", 1)])).toEqual([
    token(" the"), token(" river", 0), token(" house", 1),
  ]);
  expect(text.settled).toBe(true);
});

test("what a grammar forced keeps that apart from what was drafted", () => {
  const text = new TokenText();
  expect(text.push('{"name": "A', [token('{"', FORCED), token("name", FORCED), token('": "'), token("A", 0)])).toEqual([
    token('{"', FORCED), token("name", FORCED), token('": "'), token("A", 0),
  ]);
});

test("a character whose bytes are two tokens belongs to the first of them", () => {
  const text = new TokenText();
  expect(text.push("", [token("\uFFFD", 2)])).toEqual([]);
  expect(text.push("é la", [token("\uFFFD", -1), token(" la", 0)])).toEqual([token("é", 2), token(" la", 0)]);
  expect(text.settled).toBe(true);
});

test("text that is held back comes with its own token, and special tokens have none", () => {
  const text = new TokenText();
  expect(text.push("so", [token("so"), token("\nUs", 0), token("", 1)])).toEqual([token("so")]);
  expect(text.push("\nUsual", [token("ual")])).toEqual([token("\nUs", 0), token("ual")]);
});

test("nothing is lost where a stop string cuts a token, or its text is another than by itself", () => {
  const cut = new TokenText();
  expect(cut.push("end", [token("ending", 3)])).toEqual([]);
  expect(cut.end()).toEqual([token("end", 3)]);
  const other = new TokenText();
  expect(other.push("Abc", [token("xyz", 1)])).toEqual([token("Abc", 1)]);
  expect(other.end()).toEqual([]);
});
