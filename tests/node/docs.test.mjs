// What docs/node.md says is so: its snippets run, beside a model of the name that they give.
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "../../scripts/setup.mjs";
import { embergram, script, TINY } from "./harness.mjs";

const page = readFileSync(join(root, "docs/node.md"), "utf8");
const snippets = (language) => [...page.matchAll(new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``, "g"))].map(([, text]) => text);
const NAME = "SmolLM2-135M-Instruct.Q4_1.gguf";

test("the script", async () => {
  const [text, ...more] = snippets("js");
  expect(more).toEqual([]);
  const { code, stdout, stderr } = await script(text.replace(NAME, TINY).replace("max_tokens: 100", "max_tokens: 12"));
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout.trim()).not.toBe("");
});

test("the commands", async () => {
  const folder = mkdtempSync(join(tmpdir(), "embergram-docs-"));
  try {
    symlinkSync(TINY, join(folder, NAME));
    const commands = snippets("sh").flatMap((text) => text.trim().split("\n"));
    expect(commands.length).toBeGreaterThanOrEqual(3);
    for (const command of commands) {
      const [, input, words] = /^(?:echo "(.*)" \| )?npx embergram (.*)$/.exec(command);
      const args = [...words.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? (word === NAME ? join(folder, NAME) : word));
      const { code, stdout } = await embergram(args, { input });
      expect(code, command).toBe(0);
      expect(stdout.trim(), command).not.toBe("");
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
