// What docs/node.md, docs/openai.md, docs/embeddings.md, docs/models.md and docs/errors.md say is so: their snippets run, beside a model of the name that they give.
import { once } from "node:events";
import { createServer } from "node:http";
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "../../scripts/setup.mjs";
import { listener } from "../../www/embergram/node/cli/http.ts";
import { embergram, Llm, script, TINY } from "./harness.mjs";

const read = (name) => readFileSync(join(root, "docs", name), "utf8");
const snippets = (language, page = read("node.md")) => [...page.matchAll(new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``, "g"))].map(([, text]) => text);
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

test("OpenAI's API: the clients, and a server", async () => {
  const all = snippets("js", read("openai.md"));
  const pages = all.filter((text) => text.includes("addEventListener"));
  expect([all.length, pages.length]).toEqual([5, 1]);
  const llm = await Llm.load({ model: TINY, max_model_len: 128 });
  const server = createServer(listener(llm.fetch)).listen(0, "127.0.0.1");
  await once(server, "listening");
  for (const snippet of all.filter((text) => !pages.includes(text))) {
    const text = snippet.replace("http://localhost:8000", `http://127.0.0.1:${server.address().port}`);
    const { code, stderr } = await script(`
      import { Llm${/import .*Llm/.test(text) ? " as Same" : ""}, speculationStats } from "embergram";
      const model = ${JSON.stringify(TINY)};
      ${/const llm/.test(text) ? "" : "const llm = await Llm.load({ model, max_model_len: 128 });"}
      ${text}
      ${/textStream/.test(text) ? "for await (const _ of textStream) break;" : ""}
      process.exit();`);
    expect({ code, stderr }, snippet).toEqual({ code: 0, stderr: "" });
  }
  server.close();
  await llm.unload();
});

test("what an error tells", async () => {
  const [text, load, ...more] = snippets("js", read("errors.md"));
  expect(more).toEqual([]);
  const { code, stdout, stderr } = await script(`
    import { Llm } from "embergram";
    const model = ${JSON.stringify(TINY)};
    ${load}
    const messages = [{ role: "user", content: "the" }];
    const signal = AbortSignal.abort();
    ${text}`);
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "so far: undefined\n", stderr: "" });
});

test("embeddings", async () => {
  const [text, ...more] = snippets("js", read("embeddings.md"));
  expect(more).toEqual([]);
  const { code, stdout, stderr } = await script(`
    import { Llm } from "embergram";
    const llm = await Llm.load({ model: ${JSON.stringify(TINY)}, max_model_len: 64 });
    ${text}
    process.exit();`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const cosines = JSON.parse(stdout);
  expect(cosines).toHaveLength(2);
  for (const cosine of cosines) expect(Math.abs(cosine)).toBeLessThanOrEqual(1.0001);
});

test("a logits processor", async () => {
  const [text, ...more] = snippets("js", read("models.md"));
  expect(more).toEqual([]);
  const { code, stdout, stderr } = await script(`
    import { Llm } from "embergram";
    const llm = await Llm.load({ model: ${JSON.stringify(TINY)}, max_model_len: 64 });
    ${text.replace("max_tokens: 20,", "max_tokens: 20, ignore_eos: true,")}
    console.log(JSON.stringify(outputs[0].token_ids));
    process.exit();`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const ids = JSON.parse(stdout);
  expect(ids).toHaveLength(20);
  expect(ids.filter((id, i) => id === ids[i + 1])).toEqual([]);
});
