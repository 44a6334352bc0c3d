// The command line: what a model writes is shown by the terminal and not obeyed.
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { root } from "../../scripts/setup.mjs";
import { harmless, printable } from "../../scripts/terminal.mjs";
import { hfFolder } from "../support/hf-folder.mjs";
import { hub } from "../support/hub.mjs";
import { serve } from "../support/server.mjs";

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

test("where there is no Chromium it runs in Node, and installs nothing", () => {
  const path = mkdtempSync(join(tmpdir(), "embergram-path-"));
  try {
    for (const command of ["node", "which"]) symlinkSync(command === "node" ? process.execPath : "/usr/bin/which", join(path, command));
    const args = [join(root, "scripts/generate.mjs"), "--model", process.env.EMBERGRAM_TINY_MODEL, "--max-tokens", "8", "--ignore-eos", "the"];
    const env = { ...process.env, PATH: path, EMBERGRAM_CHROMIUM: "" };
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", cwd: root, env });
    expect(status, stderr).toBe(0);
    expect(stdout.trim()).not.toBe("");
    expect(stderr).toMatch(/^\[generate\] there is no Chromium here/);
    expect(stderr).toMatch(/\[done\] .* on CPU, \d+ threads?, WebAssembly/);
  } finally {
    rmSync(path, { recursive: true });
  }
});

test("a model by its repository and quantization, from the hub that HF_ENDPOINT names", async () => {
  const server = await serve();
  try {
    const tiny = readFileSync(process.env.EMBERGRAM_TINY_MODEL);
    const { tree, file } = hub(server, "some/model-GGUF", { "model-Q8_0.gguf": tiny, "model-Q4_0.gguf": Buffer.from("another") });
    const args = [join(root, "scripts/generate.mjs"), "--model", "hf:some/model-GGUF:q8_0", "--max-tokens", "8", "--json", "the"];
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root, env: { ...process.env, HF_ENDPOINT: server.origin } });
    expect(JSON.parse(stdout).outputs[0].outputs[0].token_ids).toHaveLength(8);
    expect(server.requests.map(({ path }) => path)).toEqual([tree, file("model-Q8_0.gguf")]);
  } finally {
    await server.close();
  }
}, 300_000);

test("a folder in the Hugging Face layout, quantised, raw and as a chat", async () => {
  const folder = hfFolder("llama3", { shards: 2 });
  const run = async (...options) => {
    const args = [join(root, "scripts/generate.mjs"), "--model", folder, "--max-tokens", "8", "--ignore-eos", "--json", ...options, "the river"];
    return JSON.parse((await promisify(execFile)(process.execPath, args, { cwd: root })).stdout);
  };
  const [plain, quantised, chat] = [await run(), await run("--quantization", "q8_0"), await run("--chat")];
  for (const { model, outputs } of [plain, quantised, chat]) {
    expect(model).toBe("llama3");
    expect(outputs[0].outputs[0].token_ids).toHaveLength(8);
  }
  const memory = ({ metrics }) => metrics.find(({ name }) => name === "embergram:gpu_memory_bytes").value;
  expect(memory(quantised)).toBeLessThan(memory(plain));
  // The template writes who speaks.
  expect(chat.outputs[0].prompt_token_ids.length).toBeGreaterThan(plain.outputs[0].prompt_token_ids.length);
  const place = mkdtempSync(join(tmpdir(), "embergram-template-"));
  try {
    const template = join(place, "template.jinja");
    writeFileSync(template, "{{ bos_token }}{{ messages[0].content }}");
    expect((await run("--chat", "--chat-template", template)).outputs[0].prompt_token_ids).toEqual(plain.outputs[0].prompt_token_ids);
  } finally {
    rmSync(place, { recursive: true });
  }
}, 300_000);

test("says on what it ran, and runs where it is told to", async () => {
  const run = (...options) => {
    const args = [join(root, "scripts/generate.mjs"), "--model", process.env.EMBERGRAM_TINY_MODEL, "--max-tokens", "4", ...options, "the"];
    const { stderr, status } = spawnSync(process.execPath, args, { encoding: "utf8", cwd: root });
    return { status, stderr, last: stderr.trim().split("\n").at(-1) };
  };
  expect(run("--backend", "cpu", "--threads", "1")).toMatchObject({ status: 0, last: expect.stringMatching(/^\[done\] .* on CPU, 1 thread, WebAssembly/) });
  expect(run("--threads", "2").last).toMatch(/ on CPU, 2 threads, WebAssembly/);
  expect(run("--backend", "webgpu").last).toMatch(/ on .+ \(WebGPU/);
  expect(run("--backend", "gpu")).toMatchObject({ status: 1, stderr: expect.stringContaining('"webgpu"') });
  expect(run("--threads", "two")).toMatchObject({ status: 1, last: expect.stringContaining("--threads is 'two'") });
}, 300_000);

test("what is left as it is, and what is made of the rest", () => {
  expect(printable("a\tb\nc ü 日本 🎉")).toBe("a\tb\nc ü 日本 🎉");
  expect(printable("\x1b[2J\r\x07\0\x7f\x9b31m")).toBe("␛[2J␍␇␀␡\\x9b31m");
  const json = JSON.stringify({ text: "\x1b\x7f\x9b" });
  expect(harmless(json)).toBe(String.raw`{"text":"\u001b\u007f\u009b"}`);
  expect(JSON.parse(harmless(json))).toEqual(JSON.parse(json));
});
