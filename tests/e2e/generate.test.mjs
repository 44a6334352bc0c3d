// The command line: what a model writes is shown by the terminal and not obeyed.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "../../scripts/setup.mjs";
import { harmless, printable } from "../../scripts/terminal.mjs";

const CONTROL = /[\0-\x08\x0b-\x1f\x7f-\x9f]/;

/** `npm run generate` with a model that says anything. */
const generate = (...options) => {
  // So hot that every token is as likely as any other, the bytes below a space among them.
  const hot = ["--temperature", "1000", "--seed", "1", "--max-tokens", "200", "--ignore-eos"];
  const args = [join(root, "scripts/generate.mjs"), "--model", process.env.EMBERGRAM_TINY_MODEL, ...hot, ...options];
  return execFileSync(process.execPath, args, { encoding: "utf8", cwd: root });
};

test("npm run generate shows control characters in place of obeying them", () => {
  const json = generate("--json", "the");
  expect(json).not.toMatch(CONTROL);
  const [{ outputs }] = JSON.parse(json).outputs;
  expect(outputs[0].text).toMatch(CONTROL);
  for (const prompts of [["the"], ["the", "the"]]) {
    const shown = generate(...prompts);
    expect(shown).not.toMatch(CONTROL);
    expect(shown).toContain(printable(outputs[0].text));
  }
}, 300_000);

test("what is left as it is, and what is made of the rest", () => {
  expect(printable("a\tb\nc ü 日本 🎉")).toBe("a\tb\nc ü 日本 🎉");
  expect(printable("\x1b[2J\r\x07\0\x7f\x9b31m")).toBe("␛[2J␍␇␀␡\\x9b31m");
  const json = JSON.stringify({ text: "\x1b\x7f\x9b" });
  expect(harmless(json)).toBe(String.raw`{"text":"\u001b\u007f\u009b"}`);
  expect(JSON.parse(harmless(json))).toEqual(JSON.parse(json));
});
