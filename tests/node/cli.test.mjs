// The command line as people run it.
import { expect, test } from "vitest";
import { hfFolder } from "../support/hf-folder.mjs";
import { CLI, embergram, MODEL, script, start, TINY } from "./harness.mjs";

test("generate streams text, and says how fast it was", async () => {
  const { code, stdout, stderr } = await embergram(["generate", MODEL, "The capital of France is", "--max-tokens", "8", "--threads", "2"]);
  expect(stderr).toMatch(/^\[done\] prompt [\d.]+ tokens\/s, decode [\d.]+ tokens\/s, on CPU, 2 threads, WebAssembly/);
  expect(code).toBe(0);
  expect(stdout).toMatch(/Paris/);
});

test("generate gives JSON, of a prompt from stdin, with speculation", async () => {
  const input = "One, two, three. One, two, three. One, two,";
  const { code, stdout } = await embergram(["generate", MODEL, "--max-tokens", "8", "--speculate", "5", "--json"], { input });
  expect(code).toBe(0);
  const told = JSON.parse(stdout);
  expect(told.output.prompt).toBe(input);
  expect(told.output.outputs[0].token_ids).toHaveLength(8);
  expect(told.speculative_decoding.num_drafts).toBeGreaterThan(0);
  expect(told.decode_tokens_per_second).toBeGreaterThan(0);
  expect(told.metrics.map(({ name }) => name)).toContain("vllm:generation_tokens");
});

test("chat goes on with what was said", async () => {
  const say = (input) => embergram(["chat", MODEL, "--max-tokens", "12", "--temperature", "0"], { input });
  const { code, stdout, stderr } = await say("My name is Ada.\nWhat is my name?\n/clear\nWhat is my name?\n/exit\nnever read\n");
  expect(stderr).toContain("/exit");
  expect(code).toBe(0);
  const [, after, cleared] = stdout.trim().split(/\n+/);
  expect(after).not.toBe(cleared);
});

test("bench prints both rates", async () => {
  const args = ["bench", TINY, "--prompt-tokens", "20", "--max-tokens", "20", "--speculate", "3", "--max-model-len", "64"];
  const { code, stdout, stderr } = await embergram(args);
  expect(stderr).toBe("");
  expect(code).toBe(0);
  expect(stdout).toMatch(/prompt [\d.]+ tokens\/s, decode [\d.]+ tokens\/s.*\nmedians of 3; prompt of 20 tokens, 20 tokens written\n$/);
  const told = JSON.parse((await embergram([...args, "--json", "--repeat", "1"])).stdout);
  expect(told).toMatchObject({ prompt_tokens: 20, max_tokens: 20, adapter: { backend: "cpu" } });
  expect(told.prompt_tokens_per_second).toBeGreaterThan(0);
});

test.each([
  [["generate", "none.gguf", "x"], 1, /^embergram: invalid_config: model: .*none\.gguf cannot be read/],
  [["generate", process.env.EMBERGRAM_TINY_MODEL, "x", "--temperature", "-1"], 1, /^embergram: invalid_params: /],
  [["generate", "x.gguf", "x", "--seed", "one"], 2, /^embergram: --seed is 'one'; give a number\n$/],
  [["generate", "x.gguf", "x", "--speculate", "many"], 2, /^embergram: --speculate is 'many'/],
  [["bench", "x.gguf", "y"], 2, /^embergram: 'y' is one argument too many/],
  [["bench"], 2, /^embergram: give a model/],
  [["dance"], 2, /^embergram: there is no command 'dance'/],
  [["generate", "none\x1b[2J.gguf", "x"], 1, /none␛\[2J\.gguf/],
])("%j is refused in one line", async (args, code, line) => {
  const said = await embergram(args);
  expect(said.code).toBe(code);
  expect(said.stdout).toBe("");
  expect(said.stderr).toMatch(line);
  expect(said.stderr.trim().split("\n")).toHaveLength(1);
});

test("--help lists the options", async () => {
  const { code, stdout } = await embergram(["--help"]);
  expect(code).toBe(0);
  for (const word of ["generate MODEL", "chat MODEL", "bench MODEL", "serve MODEL", "--threads"]) expect(stdout).toContain(word);
});

test("a process with a model ends by itself, in or out of a thread", async () => {
  for (const worker of [true, false]) {
    const { code, stdout, stderr } = await script(`
      import { Llm } from "embergram";
      const llm = await Llm.load({ model: ${JSON.stringify(TINY)}, max_model_len: 64, threads: 2, worker: ${worker} });
      const [{ outputs }] = await llm.generate("the", { max_tokens: 4, ignore_eos: true });
      console.log(outputs[0].token_ids.length);`);
    expect(stderr).toBe("");
    expect({ code, stdout }).toEqual({ code: 0, stdout: "4\n" });
  }
});

test("serve has the paths of vLLM's server", async () => {
  const child = start([CLI, "serve", hfFolder("llama3"), "--port", "0", "--max-model-len", "64"]);
  try {
    const line = await new Promise((done, fail) => {
      child.stdout.setEncoding("utf8").once("data", done);
      child.stderr.setEncoding("utf8").once("data", (text) => fail(new Error(text)));
    });
    const origin = /http:\/\/127\.0\.0\.1:\d+/.exec(line)[0];
    const get = async (path) => (await fetch(origin + path)).text();
    const post = (path, body, headers = {}) => fetch(origin + path, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), headers: { "content-type": "application/json", ...headers } });
    expect((await fetch(`${origin}/health`)).status).toBe(200);
    expect(JSON.parse(await get("/v1/models")).data).toMatchObject([{ id: "llama3", object: "model" }]);
    const answer = await (await post("/v1/completions", { prompt: "the", max_tokens: 4, temperature: 0 })).json();
    expect(answer).toMatchObject({ object: "text_completion", usage: { completion_tokens: 4 } });
    const messages = [{ role: "user", content: "a" }];
    const chat = await (await post("/v1/chat/completions", { messages, max_tokens: 4, temperature: 0 })).json();
    expect(chat).toMatchObject({ object: "chat.completion", choices: [{ message: { role: "assistant" } }] });
    const events = (await (await post("/v1/chat/completions", { messages, max_tokens: 4, temperature: 0, stream: true })).text()).split("\n\n");
    expect(events.slice(-2)).toEqual(["data: [DONE]", ""]);
    const chunks = events.slice(0, -2).map((event) => JSON.parse(event.slice("data: ".length)));
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe(chat.choices[0].message.content);
    expect(await get("/metrics")).toMatch(/^vllm:generation_tokens_total\{.*model_name="llama3".*\} 12/m);
    const wrong = await post("/v1/completions", { prompt: "the", temperature: -1 });
    expect(wrong.status).toBe(400);
    expect(await wrong.json()).toMatchObject({ error: { code: 400, type: "BadRequestError", param: "temperature" } });
    const taken = await embergram(["serve", hfFolder("llama3"), "--port", new URL(origin).port, "--max-model-len", "64"]);
    expect(taken.code).toBe(2);
    expect(taken.stderr).toMatch(/^embergram: --port \d+ cannot be had: .*EADDRINUSE[^\n]*\n$/);
    expect((await post("/v1/completions", "nonsense")).status).toBe(400);
    expect((await post("/v1/none", {})).status).toBe(404);
    expect((await post("/v1/completions", { prompt: "the" }, { origin: "https://elsewhere.example" })).status).toBe(403);
  } finally {
    child.kill();
  }
});
