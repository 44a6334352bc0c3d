// Models from the disk, from a server and from memory; the cache in a folder.
import { openAsBlob, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { syntheticModel } from "../../scripts/setup.mjs";
import { hfFolder } from "../support/hf-folder.mjs";
import { hub } from "../support/hub.mjs";
import { serve } from "../support/server.mjs";
import { Llm, MODEL, modelCache, refusal, script, TINY } from "./harness.mjs";

const bytes = readFileSync(TINY);
let folder;
let server;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "embergram-node-"));
  process.env.EMBERGRAM_CACHE_DIR = join(folder, "cache");
  server = await serve({});
});
afterAll(async () => {
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  server.reset();
  server.requests.length = 0;
  await modelCache.clear();
});

const params = { temperature: 0, max_tokens: 8, ignore_eos: true };
async function said(options) {
  const llm = await Llm.load({ max_model_len: 64, threads: 1, ...options });
  const [{ outputs }] = await llm.generate("the", params);
  await llm.unload();
  return outputs[0].token_ids;
}

test("a path, a relative one, a file: address, a Blob", async () => {
  const tokens = await said({ model: TINY });
  expect(tokens).toHaveLength(8);
  for (const model of [relative(process.cwd(), TINY), pathToFileURL(TINY), pathToFileURL(TINY).href, new Blob([bytes])]) {
    expect(await said({ model })).toEqual(tokens);
  }
  const ofFile = await openAsBlob(TINY);
  expect(await said({ model: ofFile, worker: false })).toEqual(tokens);
  expect(await refusal(said({ model: ofFile }))).toMatchObject({ code: "invalid_config", message: expect.stringContaining("path") });
});

test("a folder, and a split model by any of its parts", async () => {
  expect(await said({ model: hfFolder("llama3", { shards: 3 }) })).toEqual(await said({ model: hfFolder("llama3") }));
  // Its own: test files run side by side, and one must not find the other's half made.
  const first = syntheticModel("tiny-disk.gguf", ["--shape", "tiny", "--split", "8"], "tiny-disk-00001-of-00003.gguf");
  expect(await said({ model: first.replace("00001-of", "00002-of") })).toEqual(await said({ model: first }));
});

test("a download is kept in the folder, checked, and gone on with", async () => {
  server.file("/tiny.gguf", bytes);
  const model = `${server.origin}/tiny.gguf`;
  const tokens = await said({ model });
  const [entry] = await modelCache.list();
  expect(entry).toMatchObject({ model, bytes: bytes.length, complete: true });
  expect(readdirSync(join(process.env.EMBERGRAM_CACHE_DIR, "models"))).toEqual([entry.key]);
  expect(readdirSync(join(process.env.EMBERGRAM_CACHE_DIR, "locks"))).toEqual([]);
  const before = server.requests.length;
  expect(await said({ model })).toEqual(tokens);
  expect(server.requests.length).toBe(before);
  // A damaged piece is fetched again.
  await writeFile(join(process.env.EMBERGRAM_CACHE_DIR, "models", entry.key, "0"), "nonsense");
  expect(await said({ model })).toEqual(tokens);
  expect(server.requests.length).toBeGreaterThan(before);
  expect(await modelCache.delete(model)).toBe(true);
  expect(await modelCache.size()).toBe(0);
  expect(await refusal(said({ model, sha256: "0".repeat(64) }))).toMatchObject({ code: "invalid_file" });
});

test("a download that broke off goes on where it ended", async () => {
  server.file("/tiny.gguf", bytes);
  server.fault("/tiny.gguf", (_, count) => (count === 1 ? { cutAfter: 50_000 } : undefined));
  const model = `${server.origin}/tiny.gguf`;
  expect(await refusal(said({ model, retries: 0 }))).toMatchObject({ code: "network" });
  expect((await modelCache.list())[0]).toMatchObject({ complete: false });
  await said({ model });
  expect(server.requests.at(-1).headers.range).toMatch(/^bytes=[1-9]/);
  expect((await modelCache.list())[0]).toMatchObject({ complete: true, bytes: bytes.length });
});

test("two processes download a file once", async () => {
  server.file("/tiny.gguf", bytes);
  server.fault("/tiny.gguf", () => ({ rate: 50_000 }));
  const text = `
    import { Llm } from "embergram";
    const llm = await Llm.load({ model: "${server.origin}/tiny.gguf", max_model_len: 64, threads: 1 });
    console.log(llm.model.name);`;
  const [one, other] = await Promise.all([script(text), script(text)]);
  expect(one).toMatchObject({ code: 0, stderr: "" });
  expect(other).toEqual(one);
  expect(server.requests).toHaveLength(1);
});

test("a lock of a process that is gone is nobody's", async () => {
  server.file("/tiny.gguf", bytes);
  const model = `${server.origin}/tiny.gguf`;
  await said({ model });
  const [{ key }] = await modelCache.list();
  await modelCache.clear();
  // No process has this number.
  await writeFile(join(process.env.EMBERGRAM_CACHE_DIR, "locks", `embergram-${key}.lock`), "4194305 x");
  await said({ model });
  expect((await modelCache.list())[0]).toMatchObject({ complete: true });
});

test("an hf: name, without the cache", async () => {
  hub(server, "some/model", { "tiny-Q4_0.gguf": bytes });
  expect(await said({ model: "hf:some/model", hfEndpoint: server.origin, cache: false })).toEqual(await said({ model: TINY }));
  expect(await modelCache.list()).toEqual([]);
});

test("a fetch of the caller's, and progress", async () => {
  server.file("/tiny.gguf", bytes);
  const asked = [];
  const phases = new Set();
  await said({
    model: `${server.origin}/tiny.gguf`,
    fetch: (url, init) => (asked.push(String(url)), fetch(url, init)),
    onProgress: ({ phase }) => phases.add(phase),
  });
  expect(asked).toEqual([`${server.origin}/tiny.gguf`]);
  expect([...phases]).toEqual(["gpu", "download", "build", "ready"]);
});

test("inspect and supported tell of the CPU", async () => {
  expect(await Llm.inspect(MODEL)).toMatchObject({ backend: "cpu", reason: null, model: { architecture: "llama" }, adapter: { backend: "cpu" } });
  expect(await Llm.inspect(hfFolder("llama3"))).toMatchObject({ backend: "cpu", reason: null });
  const support = await Llm.supported();
  expect(support).toMatchObject({ backend: "cpu", webgpu: false, cpu: { simd: true, shared_memory: true, advice: null } });
  expect(support.reason).toContain("CPU");
});

test("errors have their codes", async () => {
  const code = async (options) => (await refusal(said(options)))?.code;
  expect(await code({ model: join(folder, "none.gguf") })).toBe("invalid_config");
  expect(await code({ model: folder })).toBe("invalid_config");
  expect(await code({ model: new Blob(["nonsense that is no model"]) })).toBe("invalid_file");
  expect(await code({ model: new Blob([bytes.subarray(0, bytes.length >> 1)]) })).toBe("truncated_file");
  expect(await code({ model: `${server.origin}/none.gguf` })).toBe("http");
  expect(await code({ model: TINY, backend: "webgpu" })).toBe("no_webgpu");
  expect(await code({ model: TINY, threads: 0 })).toBe("invalid_config");
  expect(await code({ model: TINY, workerUrl: "worker.js" })).toBe("invalid_config");
  expect(await code({ model: TINY, worker: "shared" })).toBe("invalid_config");
  expect(await code({})).toBe("invalid_config");
  const llm = await Llm.load({ model: TINY, max_model_len: 64, threads: 1 });
  expect(await refusal(llm.generate("the", { temperature: -1 }))).toMatchObject({ name: "EmbergramError", code: "invalid_params" });
  await llm.unload();
  expect(await refusal(llm.generate("the"))).toMatchObject({ code: "aborted" });
});
