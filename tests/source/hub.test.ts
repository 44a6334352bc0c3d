// Models by the name of their repository, from a server that answers as the Hugging Face hub. Real Chromium.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { hub, refusal } from "../support/hub.mjs";
import type { CachedModel } from "../../www/embergram/source/index.js";
import type { Job } from "./harness.js";
import { noise, OVERLAP, run, sha256, start } from "./setup.js";

const KIB = 1 << 10;
const file = (seed: number) => noise(64 * KIB, seed);
const REPO = "Owner/Some-Model-GGUF";

let house: Awaited<ReturnType<typeof start>>;
beforeAll(async () => { house = await start(); });
afterAll(() => house?.stop());
beforeEach(() => house.fresh());

const load = (input: string, options: Job["options"] = {}, more: Partial<Job> = {}) =>
  run(house.keeper, "dedicated", { do: "load", input, ...more, options: { retryDelay: 10, hfEndpoint: house.server.origin, ...options } });
const ask = async <T>(what: Job["do"], more: Partial<Job> = {}) => (await run(house.keeper, "dedicated", { do: what, ...more })).value as T;
const named = (...paths: string[]) => Object.fromEntries(paths.map((path, i) => [path, file(i + 1)]));
const asked = () => house.server.requests.map(({ method, path }) => `${method} ${path}`);

describe("the tag names the file", () => {
  test.each([
    ["q4_k_m", "m-Q4_K_M.gguf"], ["Q4_K_M", "m.Q4_K_M.gguf"], ["Q4_K_M", "m_q4_k_m.gguf"], ["Q4_K_M", "q4_k_m.gguf"], ["Q4_K_M", "Q4_K_M/m.gguf"],
    ["Q4_K_M", "m-q4_k_m/m.gguf"], ["Q4_K_XL", "m-UD-Q4_K_XL.gguf"], ["UD-Q4_K_XL", "m-UD-Q4_K_XL.gguf"], ["BF16", "sub/m-bf16.GGUF"],
  ])("%s is %s", async (tag, path) => {
    const files = { "README.md": file(1), "m-Q8_0.gguf": file(2), "m-IQ4_NL.gguf": file(3), "m-F16.gguf": file(4), [path]: file(5) };
    const { file: at } = hub(house.server, REPO, files);
    const result = await load(`hf:${REPO}:${tag}`);
    expect(result.error).toBeUndefined();
    expect(result.parts.map((p) => p.sha256)).toEqual([sha256(file(5))]);
    expect(house.server.requests.at(-1)?.path).toBe(at(path));
  });

  test("one request for the tree, one for the file", async () => {
    const { tree, file: at } = hub(house.server, REPO, named("m-Q8_0.gguf", "m-Q4_0.gguf"));
    await load(`hf:${REPO}:Q4_0`);
    expect(asked()).toEqual([`GET ${tree}`, `GET ${at("m-Q4_0.gguf")}`]);
  });

  test("a plain name goes before one that is marked as dynamic", async () => {
    hub(house.server, REPO, named("m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"));
    expect((await load(`hf:${REPO}:Q4_K_M`)).parts[0]?.name).toBe("m-Q4_K_M.gguf");
    expect((await load(`hf:${REPO}:UD-Q4_K_M`)).parts[0]?.name).toBe("m-UD-Q4_K_M.gguf");
  });

  test("the whole name is a tag, where shorter ones fit several", async () => {
    hub(house.server, REPO, named("m-Q4_0.gguf", "m-it-Q4_0.gguf", "other-m-Q4_0.gguf"));
    expect((await load(`hf:${REPO}:m-q4_0`)).parts[0]?.name).toBe("m-Q4_0.gguf");
  });

  test("the revision chooses the tree", async () => {
    hub(house.server, REPO, { "m-Q4_0.gguf": file(1) });
    hub(house.server, REPO, { "m-Q4_0.gguf": file(2) }, { revision: "refs/pr/1" });
    expect((await load(`hf:${REPO}@refs/pr/1:Q4_0`)).parts[0]?.sha256).toBe(sha256(file(2)));
  });

  test("names that an address cannot hold as they are", async () => {
    hub(house.server, REPO, { "a b#c?/ü%20-Q4_0.gguf": file(1) });
    house.server.file(`/${REPO}/resolve/main/a b%23c%3F/ü%20-Q4_0.gguf`, file(1));
    expect((await load(`hf:${REPO}:Q4_0`)).parts[0]?.sha256).toBe(sha256(file(1)));
  });

  test("a path that leads out of the repository is none", async () => {
    hub(house.server, REPO, named("../../../evil/m-Q4_0.gguf", "./n-Q4_0.gguf", "a//o-Q4_0.gguf", "p-Q8_0.gguf"));
    expect((await load(`hf:${REPO}:Q4_0`)).error).toMatchObject({ code: "invalid_config", message: expect.stringContaining("p-Q8_0") });
  });
});

describe("without a tag", () => {
  test("the only model is meant; projectors, matrices and drafts are none", async () => {
    hub(house.server, REPO, named("README.md", "mmproj-F16.gguf", "m.imatrix.gguf", "mtp-m.gguf", "config.json", "m.gguf"));
    expect((await load(`hf:${REPO}`)).parts[0]?.name).toBe("m.gguf");
  });

  test("several are an error that lists some of them", async () => {
    hub(house.server, REPO, named(...Array.from({ length: 40 }, (_, i) => `m${i}-Q4_0.gguf`)));
    const { error } = await load(`hf:${REPO}`);
    expect(error).toMatchObject({ code: "invalid_config" });
    expect(error?.message).toMatch(/holds 40 models: m0-Q4_0 \(0\.1 MB\), .* and 28 more.*hf:Owner\/Some-Model-GGUF:TAG/);
    expect(error?.message.length).toBeLessThan(1000);
  });

  test("nothing to load", async () => {
    hub(house.server, REPO, named("README.md", "mmproj-F16.gguf"));
    expect((await load(`hf:${REPO}`)).error).toMatchObject({ code: "unsupported_model", message: expect.stringContaining("no GGUF") });
  });
});

describe("tags that name none or several", () => {
  test.each(["Q5_K_M", "K_M", "M", "4_K_M", "latest"])("%s names none: the error lists what there is", async (tag) => {
    const { tree } = hub(house.server, REPO, named("m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-Q5_K_M.gguf"));
    const { error } = await load(`hf:${REPO}:${tag}`);
    expect(error).toMatchObject({ code: "invalid_config", message: expect.stringMatching(/m-Q4_K_M \(0\.1 MB\), m-Q8_0/) });
    expect(error?.message).toContain(`"${tag}"`);
    expect(error?.message).not.toContain("mmproj");
    expect(asked()).toEqual([`GET ${tree}`]);
  });

  test("several are told apart by their names", async () => {
    hub(house.server, REPO, named("m-Q4_0.gguf", "m-it-Q4_0.gguf", "m-Q8_0.gguf"));
    const { error } = await load(`hf:${REPO}:Q4_0`);
    expect(error).toMatchObject({ code: "invalid_config", message: expect.stringContaining("m-Q4_0 (0.1 MB), m-it-Q4_0 (0.1 MB)") });
    expect(error?.message).not.toContain("Q8_0");
  });
});

describe("split models", () => {
  const parts = (total: number, tag = "Q4_0") => Array.from({ length: total }, (_, i) => `${tag}/m-${tag}-0000${i + 1}-of-0000${total}.gguf`);

  test("all parts in order, without a further question", async () => {
    const files = named("m-Q8_0.gguf", ...parts(3).reverse());
    const { tree, file: at } = hub(house.server, REPO, files);
    const result = await load(`hf:${REPO}:Q4_0`);
    expect(result.error).toBeUndefined();
    expect(result.parts.map((p) => p.sha256)).toEqual(parts(3).map((path) => sha256(files[path]!)));
    expect(result.progress[0]?.total).toBe(3 * 64 * KIB);
    expect(asked()).toEqual([`GET ${tree}`, ...parts(3).map((path) => `GET ${at(path)}`)]);
  });

  test("a missing part is an error before any download", async () => {
    const { tree } = hub(house.server, REPO, named(parts(3)[0]!, parts(3)[2]!));
    expect((await load(`hf:${REPO}:Q4_0`)).error).toMatchObject({ code: "invalid_file", message: expect.stringContaining("2 of 3 parts") });
    expect(asked()).toEqual([`GET ${tree}`]);
  });

  test("a kept part of an older version is fetched again", async () => {
    hub(house.server, REPO, named(...parts(2)));
    await load(`hf:${REPO}:Q4_0`);
    const list = await ask<CachedModel[]>("list");
    await ask("delete", { listed: list.find(({ url }) => url.includes("-00002-of"))! });
    const files = { [parts(2)[0]!]: file(8), [parts(2)[1]!]: file(9) };
    hub(house.server, REPO, files);
    const result = await load(`hf:${REPO}:Q4_0`);
    expect(result.error).toBeUndefined();
    expect(result.parts.map((p) => p.sha256)).toEqual([sha256(file(8)), sha256(file(9))]);
  });
});

describe("the tree", () => {
  test("has pages", async () => {
    const { tree } = hub(house.server, REPO, named("a/m-Q8_0.gguf", "b.txt", "c.txt", "d/m-Q4_0.gguf"), { page: 2 });
    expect((await load(`hf:${REPO}:Q4_0`)).parts[0]?.sha256).toBe(sha256(file(4)));
    expect(house.server.of(tree).map(({ query }) => query.get("cursor"))).toEqual([null, "2", "4"]);
  });

  test("of a mirror that hands on the hub's own links is read from the mirror", async () => {
    const link = (url: string) => url.replace(house.server.origin, "https://huggingface.co");
    const { tree } = hub(house.server, REPO, named("a.txt", "m-Q4_0.gguf"), { page: 1, link });
    expect((await load(`hf:${REPO}:Q4_0`)).parts[0]?.sha256).toBe(sha256(file(2)));
    expect(house.server.of(tree)).toHaveLength(2);
  });

  test("whose pages never end is an error", async () => {
    const { tree } = hub(house.server, REPO, named("a.txt", "b.txt"), { page: 1, link: (url) => url.replace(/cursor=.*/, "cursor=0") });
    expect((await load(`hf:${REPO}:Q4_0`)).error).toMatchObject({ code: "http", message: expect.stringContaining("pages") });
    expect(house.server.of(tree).length).toBeLessThanOrEqual(100);
  });

  test.each(["<!doctype html>", "{}", '"x"', "null"])("that is none (%s) is an error", async (body) => {
    const { tree } = hub(house.server, REPO, {});
    house.server.fault(tree, () => ({ status: 200, body }));
    expect((await load(`hf:${REPO}:Q4_0`)).error).toMatchObject({ code: "http", message: expect.stringContaining("hfEndpoint") });
  });

  test("is asked for again when the server is in trouble", async () => {
    const { tree } = hub(house.server, REPO, named("m-Q4_0.gguf"));
    // What is not in LFS has a size and no sha256; what is no entry is passed over.
    house.server.fault(tree, (_, n) => (n === 1 ? { status: 503 } : { status: 200, body: '[null,{"type":"file","path":"m-Q4_0.gguf","size":65536}]' }));
    const result = await load(`hf:${REPO}:Q4_0`);
    expect(result.parts[0]).toMatchObject({ size: 64 * KIB, sha256: sha256(file(1)) });
    expect(house.server.of(tree)).toHaveLength(2);
  });

  test("gives the sha256 that the file must have", async () => {
    const { file: at } = hub(house.server, REPO, named("m-Q4_0.gguf"));
    house.server.file(at("m-Q4_0.gguf"), file(7));
    expect((await load(`hf:${REPO}:Q4_0`)).error).toMatchObject({ code: "invalid_file", message: expect.stringContaining(sha256(file(1))) });
    expect(await ask("size")).toBe(0);
  });

  test("and the option sha256 are compared before the download", async () => {
    const { tree } = hub(house.server, REPO, named("m-Q4_0.gguf"));
    expect((await load(`hf:${REPO}:Q4_0`, { sha256: sha256(file(7)) })).error).toMatchObject({ code: "invalid_file", message: expect.stringContaining("as its server says") });
    expect(asked()).toEqual([`GET ${tree}`]);
  });
});

describe("the cache", () => {
  test("knows the model by its file: no question, whatever the name", async () => {
    const { file: at } = hub(house.server, REPO, named("m-Q4_0.gguf", "m-Q8_0.gguf"));
    await load(`hf:${REPO}:Q4_0`);
    const before = house.server.requests.length;
    for (const again of [`hf:${REPO}:q4_0`, `hf:${REPO}/m-Q4_0.gguf`, `${house.server.origin}${at("m-Q4_0.gguf")}`]) {
      expect((await load(again)).parts[0]?.sha256).toBe(sha256(file(1)));
    }
    expect(house.server.requests).toHaveLength(before);
    expect(await ask<CachedModel[]>("list")).toHaveLength(1);
    expect((await load(`hf:${REPO}:Q8_0`)).parts[0]?.sha256).toBe(sha256(file(2)));
  });

  test("is not asked for another revision, nor for half a model", async () => {
    hub(house.server, REPO, { "m-Q4_0.gguf": file(1) });
    hub(house.server, REPO, { "m-Q4_0.gguf": file(2) }, { revision: "v2" });
    await load(`hf:${REPO}:Q4_0`);
    expect((await load(`hf:${REPO}@v2:Q4_0`)).parts[0]?.sha256).toBe(sha256(file(2)));
    const split = named("s-Q8_0-00001-of-00002.gguf", "s-Q8_0-00002-of-00002.gguf");
    hub(house.server, "o/split", split);
    await load("hf:o/split:Q8_0");
    const list = await ask<CachedModel[]>("list");
    await ask("delete", { listed: list.find(({ url }) => url.includes("-00001-of"))! });
    expect((await load("hf:o/split:Q8_0")).parts.map((p) => p.sha256)).toEqual(Object.values(split).map(sha256));
  });

  test("goes on with half a file, which the hub is asked about again", async () => {
    const { tree, file: at } = hub(house.server, REPO, named("m-Q4_0.gguf"));
    house.server.fault(at("m-Q4_0.gguf"), (_, n) => (n === 1 ? { cutAfter: 32 * KIB } : {}));
    expect((await load(`hf:${REPO}:Q4_0`, { retries: 0 })).error).toMatchObject({ code: "network" });
    expect((await load(`hf:${REPO}:Q4_0`)).parts[0]?.sha256).toBe(sha256(file(1)));
    expect(house.server.of(tree)).toHaveLength(2);
    expect(house.server.of(at("m-Q4_0.gguf"))[1]?.headers.range).toBe(`bytes=${32 * KIB - OVERLAP}-`);
  });

  test("deletes what a tag names, and cacheKey holds", async () => {
    const { tree } = hub(house.server, REPO, named("m-Q4_0.gguf", "m-Q8_0.gguf"));
    const options = { hfEndpoint: house.server.origin };
    await load(`hf:${REPO}:Q4_0`);
    await load(`hf:${REPO}:Q8_0`, { cacheKey: "mine" });
    const before = house.server.requests.length;
    expect((await load(`hf:${REPO}:Q8_0`, { cacheKey: "mine" })).parts[0]?.sha256).toBe(sha256(file(2)));
    expect(house.server.requests).toHaveLength(before);
    // Under another key there is nothing: all is asked anew.
    await load(`hf:${REPO}:Q8_0`, { cacheKey: "other" });
    expect(house.server.of(tree)).toHaveLength(3);
    await ask("delete", { input: `hf:${REPO}:Q8_0`, options: { ...options, cacheKey: "other" } });
    expect(await ask("delete", { input: `hf:${REPO}:Q8_0`, options })).toBe(false);
    expect(await ask("delete", { input: `hf:${REPO}:Q8_0`, options: { ...options, cacheKey: "mine" } })).toBe(true);
    expect(await ask("delete", { input: `hf:${REPO}:q4_0`, options })).toBe(true);
    expect(await ask("list")).toEqual([]);
    expect(house.server.of(tree)).toHaveLength(3);
  });
});

describe("refusals are told apart", () => {
  test.each([
    [401, "GatedRepo", "Access to model x is restricted.", ["gated", "Authorization", "token"]],
    [403, "GatedRepo", "You are not in the authorized list.", ["gated", "has no access"]],
    [401, "RepoNotFound", "Repository not found", ["no such repository, or it is private", "Authorization"]],
    [401, "", "Invalid credentials in Authorization header", ["token"]],
    [404, "RepoNotFound", "Repository not found", ["owner", "repository"]],
    [404, "RevisionNotFound", "Invalid rev id: x", ["revision"]],
    [404, "EntryNotFound", "Entry not found", ["file"]],
  ])("%i %s", async (status, code, said, advice) => {
    const { tree, file: at } = hub(house.server, REPO, named("m-Q4_0.gguf"));
    const messages: string[] = [];
    for (const path of [tree, at("m-Q4_0.gguf")]) {
      hub(house.server, REPO, named("m-Q4_0.gguf"));
      house.server.fault(path, () => refusal(status, code, said));
      const { error } = await load(`hf:${REPO}:Q4_0`);
      expect(error).toMatchObject({ code: "http" });
      messages.push(error!.message);
    }
    for (const message of messages) for (const words of [`answered ${status}`, said.replace(/\.$/, ""), ...advice]) expect(message).toContain(words);
  });

  test("a fetch of one's own carries the token to tree and file", async () => {
    const { tree, file: at } = hub(house.server, REPO, named("m-Q4_0.gguf"));
    await load(`hf:${REPO}:Q4_0`, {}, { fetch: "authorized" });
    for (const path of [tree, at("m-Q4_0.gguf")]) expect(house.server.of(path).map((r) => r.headers.authorization)).toEqual(["Bearer x"]);
  });
});
