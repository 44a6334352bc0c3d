// Hugging Face folders: a repository's, one at an address, and files of the user's. Real Chromium.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { hub } from "../support/hub.mjs";
import type { CachedModel } from "../../www/embergram/source/index.js";
import { pattern, type Job } from "./harness.js";
import { noise, run, sha256, start } from "./setup.js";

const REPO = "Owner/Model";
const NAME = `hf:${REPO}`;
const SMALL = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];
const shard = (i: number) => `model-0000${i}-of-00002.safetensors`;
const index = (...names: string[]) => JSON.stringify({ weight_map: Object.fromEntries(names.flatMap((name, i) => [[`a${i}`, name], [`b${i}`, name]])) });

let house: Awaited<ReturnType<typeof start>>;
beforeAll(async () => { house = await start(); });
afterAll(() => house?.stop());
beforeEach(() => house.fresh());

const load = (more: Partial<Job>) =>
  run(house.keeper, "dedicated", { do: "load", ...more, options: { retryDelay: 10, baseUrl: house.server.origin, hfEndpoint: house.server.origin, ...more.options } });
const ask = async <T>(what: Job["do"], more: Partial<Job> = {}) => (await run(house.keeper, "dedicated", { do: what, ...more })).value as T;
const asked = (method: string) => house.server.requests.filter((r) => r.method === method && r.path !== "/harness.js").map(({ path }) => path);
const text = (name: string) => `{"of":"${name}"}`;
const small = (...names: string[]) => Object.fromEntries(names.map((name) => [name, Buffer.from(text(name))]));
const weights = (seed: number) => noise(1 << 16, seed);
const whole = { ...small(...SMALL), "model.safetensors": weights(1) };
const sharded = { ...small("config.json", "tokenizer.json"), "model.safetensors.index.json": Buffer.from(index(shard(2), shard(1))), [shard(1)]: weights(1), [shard(2)]: weights(2) };

describe("a repository", () => {
  test("its small files, then its weights; what else it holds is left", async () => {
    const { tree, file } = hub(house.server, REPO, { "README.md": Buffer.from("#"), "original/model.safetensors": weights(8), "m.gguf": weights(9), ...whole });
    const result = await load({ input: NAME });
    expect(result.error).toBeUndefined();
    expect(result.files).toEqual(SMALL.map((name) => [name, text(name)]));
    expect(result.parts).toMatchObject([{ name: "model.safetensors", sha256: sha256(weights(1)) }]);
    expect(result.named).toBe(REPO);
    expect(asked("GET")).toEqual([tree, ...SMALL.map(file), file("model.safetensors")]);
    const total = Object.values(whole).reduce((sum, { length }) => sum + length, 0);
    expect(result.progress.at(-1)).toMatchObject({ loaded: total, total });
  });

  test("the shards that its index names, in order; kept, they are not fetched again", async () => {
    const { tree, file } = hub(house.server, REPO, { ...sharded, "model.safetensors.bak": weights(3) });
    const first = await load({ input: NAME });
    expect(first.parts.map((part) => part.sha256)).toEqual([1, 2].map((i) => sha256(weights(i))));
    const names = ["model.safetensors.index.json", "config.json", "tokenizer.json", shard(1), shard(2)];
    expect(asked("GET")).toEqual([tree, ...names.map(file)]);
    house.server.requests.length = 0;
    const second = await load({ input: NAME });
    expect([second.parts, second.files]).toEqual([first.parts, first.files]);
    expect(asked("GET")).toEqual([tree]);
    const list = await ask<CachedModel[]>("list");
    expect(list).toHaveLength(5);
    expect(new Set(list.map(({ model }) => model))).toEqual(new Set([`${house.server.origin}${file("")}`]));
    expect(await ask("delete", { input: NAME, options: { hfEndpoint: house.server.origin } })).toBe(true);
    expect(await ask("list")).toEqual([]);
  });

  test("a small file that has changed on the hub is fetched again", async () => {
    hub(house.server, REPO, whole);
    await load({ input: NAME });
    const { tree, file } = hub(house.server, REPO, { ...whole, "chat_template.jinja": Buffer.from("another") });
    house.server.requests.length = 0;
    expect(new Map((await load({ input: NAME })).files).get("chat_template.jinja")).toBe("another");
    expect(asked("GET")).toEqual([tree, file("chat_template.jinja")]);
  });

  test("a tag means a GGUF; where there is none, the folder is advised", async () => {
    hub(house.server, REPO, { ...whole, "m-Q4_0.gguf": weights(9) });
    expect((await load({ input: `${NAME}:Q4_0` })).parts[0]?.sha256).toBe(sha256(weights(9)));
    hub(house.server, "o/folder", whole);
    expect((await load({ input: "hf:o/folder:Q4_0" })).error).toMatchObject({ code: "unsupported_model", message: expect.stringMatching(/hf:o\/folder.*quantization: "q8_0"/) });
  });

  test("another sha256 than the hub says; the option has one for each file of safetensors", async () => {
    const { file } = hub(house.server, REPO, sharded);
    const hashes = [1, 2].map((i) => sha256(weights(i)));
    expect((await load({ input: NAME, options: { sha256: hashes } })).error).toBeUndefined();
    expect((await load({ input: NAME, options: { sha256: hashes[0]! } })).error).toMatchObject({ code: "invalid_config" });
    house.server.file(file(shard(2)), weights(7));
    expect((await load({ input: NAME, options: { sha256: [...hashes.slice(0, 1), sha256(weights(3))] } })).error).toMatchObject({ code: "invalid_file" });
  });

  test.each([
    ["a shard is missing", { ...sharded, [shard(2)]: undefined }, "invalid_file", shard(2)],
    ["an index that is none", { ...sharded, "model.safetensors.index.json": Buffer.from("<html>") }, "invalid_file", "weight_map"],
    ["an index that leads elsewhere", { ...sharded, "model.safetensors.index.json": Buffer.from(index("../../x.safetensors")) }, "invalid_file", "weight_map"],
    ["an index of another kind of file", { ...sharded, "model.safetensors.index.json": Buffer.from(index("pytorch_model.bin")) }, "invalid_file", "weight_map"],
  ])("%s", async (_, files, code, says) => {
    hub(house.server, REPO, Object.fromEntries(Object.entries(files).filter(([, bytes]) => bytes)) as Record<string, Uint8Array>);
    expect((await load({ input: NAME })).error).toMatchObject({ code, message: expect.stringContaining(says) });
  });
});

describe("an address", () => {
  const put = (files: Record<string, Uint8Array>) => {
    for (const [name, bytes] of Object.entries(files)) house.server.file(`/some/model/${name}`, bytes);
  };
  const input = "/some/model/";

  test("each file is asked for; one that is not there is none", async () => {
    put({ ...small("config.json", "tokenizer.json"), "model.safetensors": weights(1) });
    // Development servers answer any address with their page.
    house.server.file("/some/model/chat_template.jinja", Buffer.from("<!doctype html>"), { "content-type": "text/html;charset=utf-8" });
    house.server.fault("/some/model/generation_config.json", () => ({ status: 403 }));
    const result = await load({ input });
    expect(result.error).toBeUndefined();
    expect(result.files?.map(([name]) => name)).toEqual(["config.json", "tokenizer.json"]);
    expect(result.parts[0]?.sha256).toBe(sha256(weights(1)));
    expect(result.named).toBe("model");
    expect(asked("HEAD").sort()).toEqual(["model.safetensors", ...SMALL].map((name) => input + name).sort());
  });

  test.each([["whole", { ...small("config.json", "tokenizer.json"), "model.safetensors": weights(1) }], ["in shards", sharded]])("loads again without the server (%s)", async (_, files) => {
    put(files);
    const first = await load({ input });
    expect(first.error).toBeUndefined();
    await house.server.stop();
    try {
      const second = await load({ input });
      expect([second.error, second.parts, second.files]).toEqual([undefined, first.parts, first.files]);
    } finally {
      await house.server.start();
    }
    expect(await ask("delete", { input, options: { baseUrl: house.server.origin } })).toBe(true);
    expect(await ask("list")).toEqual([]);
  });

  test("a server in trouble is not a folder without the file", async () => {
    put(whole);
    house.server.fault("/some/model/chat_template.jinja", () => ({ status: 503 }));
    expect((await load({ input, options: { retries: 1 } })).error).toMatchObject({ code: "http", message: expect.stringContaining("503") });
  });

  test.each([["config.json", "invalid_file"], ["model.safetensors", "unsupported_model"]])("without %s", async (name, code) => {
    const { [name]: _, ...rest } = whole as Record<string, Uint8Array>;
    put(rest);
    expect((await load({ input })).error).toMatchObject({ code, message: expect.stringContaining(name) });
  });

  test("a cacheKey holds all files apart", async () => {
    put(sharded);
    const options = { cacheKey: "mine" };
    const first = await load({ input, options });
    expect(first.parts.map((part) => part.sha256)).toEqual([1, 2].map((i) => sha256(weights(i))));
    house.server.requests.length = 0;
    expect((await load({ input, options })).parts).toEqual(first.parts);
    expect(asked("GET")).toEqual([]);
    expect(await ask("list")).toHaveLength(5);
    expect(await ask("delete", { input, options: { baseUrl: house.server.origin, ...options } })).toBe(true);
    expect(await ask("list")).toEqual([]);
  });
});

describe("files of the user's", () => {
  const file = (name: string, content = text(name), path = `chosen/${name}`) => ({ name, text: content, path });
  const safetensors = (name: string, size: number, path = `chosen/${name}`) => ({ name, size, path });
  const hash = (size: number) => sha256(pattern(size));

  test("a chosen folder, in any order; what lies deeper or is none of it is left", async () => {
    const files = [
      safetensors(shard(2), 3000), file("README.md"), file("chat_template.jinja"), safetensors("model.safetensors", 9, "chosen/original/model.safetensors"),
      file("config.json", "deeper", "chosen/original/config.json"), safetensors(shard(1), 2000), file("tokenizer.json"), file("config.json"),
      file("model.safetensors.index.json", index(shard(1), shard(2))),
    ];
    const result = await load({ files });
    expect(result.error).toBeUndefined();
    expect(result.files).toEqual(["config.json", "tokenizer.json", "chat_template.jinja"].map((name) => [name, text(name)]));
    expect(result.parts.map((part) => [part.name, part.sha256])).toEqual([[shard(1), hash(2000)], [shard(2), hash(3000)]]);
    expect(result.named).toBe("chosen");
    expect(result.progress.at(-1)).toMatchObject({ phase: "file", cached: false });
    expect(await ask("list")).toEqual([]);
  });

  test("files without a folder, as they are dropped", async () => {
    const result = await load({ files: [{ name: "model.safetensors", size: 1000 }, { name: "config.json", text: "{}" }] });
    expect(result.parts.map((part) => part.sha256)).toEqual([hash(1000)]);
    expect(result.named).toBeUndefined();
  });

  test("a folder of a GGUF, one or split, though it has a config.json", async () => {
    expect((await load({ files: [file("README.md"), file("config.json"), safetensors("m.gguf", 700)] })).parts[0]?.sha256).toBe(hash(700));
    const parts = [2, 1].map((i) => safetensors(`m-0000${i}-of-00002.gguf`, i * 500));
    expect((await load({ files: [file("README.md"), ...parts] })).parts.map((part) => part.sha256)).toEqual([hash(500), hash(1000)]);
  });

  test.each([
    ["two GGUFs", [safetensors("a.gguf", 9), safetensors("b.gguf", 9)], "invalid_config", "one model"],
    ["two folders", [file("config.json", "", "x/a/config.json"), file("config.json", "", "x/b/config.json")], "invalid_config", "x/a, x/b"],
    ["no weights", [file("config.json"), file("tokenizer.json")], "unsupported_model", "model.safetensors"],
    ["a missing shard", [file("config.json"), file("model.safetensors.index.json", index(shard(1), shard(2))), safetensors(shard(1), 9)], "invalid_file", shard(2)],
  ])("%s", async (_, files, code, says) => {
    expect((await load({ files })).error).toMatchObject({ code, message: expect.stringContaining(says) });
  });
});
