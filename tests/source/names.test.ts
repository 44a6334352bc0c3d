import { describe, expect, test } from "vitest";
import { digestOf, sameFile } from "../../www/embergram/source/http.js";
import { keptModels, openModel } from "../../www/embergram/source/index.js";
import { remoteFiles, splitOf } from "../../www/embergram/source/names.js";
import { shown } from "../../www/embergram/source/secrets.js";
import { ProgressMeter, type Progress } from "../../www/embergram/source/progress.js";

const urls = (...a: Parameters<typeof remoteFiles>) => remoteFiles(...a).map((f) => f.url.href);

describe("names", () => {
  test("hf: names become the hub's addresses", () => {
    expect(remoteFiles("hf:o/r/f.gguf")).toEqual([
      { key: "https://huggingface.co/o/r/resolve/main/f.gguf", url: new URL("https://huggingface.co/o/r/resolve/main/f.gguf"), pointer: new URL("https://huggingface.co/o/r/raw/main/f.gguf") },
    ]);
    expect(urls("hf:o/r/a-b/f.gguf@refs/pr/1", { hfEndpoint: "https://mirror.example/hub/" })).toEqual([
      "https://mirror.example/hub/o/r/resolve/refs%2Fpr%2F1/a-b/f.gguf",
    ]);
  });

  test.each([
    "hf:o", "hf:", "hf:o/r/", "hf:o/r/f.gguf@", "hf:o:Q4", "hf:o/r:", "hf:o/r:a:b", "hf:o/r:a/b", "hf:o/r:..", "hf:o/r:%2e", "hf:o/r:Q4@v1", "hf:o/r@:Q4",
    "hf:o/r/f.gguf:Q4", "hf:../r:Q4", "hf:o/..:Q4", "hf:o/r@..:Q4", "hf:o/r?x:Q4",
    // Out of the repository, in every way that an address has for it.
    "hf:a/b/../../../../evil/repo/resolve/main/x.gguf", "hf:../evil/x.gguf", "hf:a/../x.gguf", "hf:a/b/./x.gguf", "hf:a/b//x.gguf",
    "hf:a/b/%2e%2e/x.gguf", "hf:a/b/..%2Fx.gguf", "hf:a/b/..\\x.gguf", "hf:a/b/x.gguf?y", "hf:a/b/x.gguf#y", "hf:a/b/.\t./x.gguf", "hf:a/b/x.gguf\n",
    "hf:a/b/x.gguf@..", "hf:a/b/x.gguf@../../x", "hf:a/b/x.gguf@refs//1", "hf:a/b/x.gguf@a@b", "hf:a/b/x.gguf@%2e%2e", "hf:a/b/ü.gguf",
  ])("%s is refused with the right form", async (name) => {
    const refusal = { code: "invalid_config", message: expect.stringMatching(/hf:owner\/repo\/file\.gguf.*hf:owner\/repo:Q4_K_M/) };
    await expect(openModel(name, { fetch: () => expect.unreachable() })).rejects.toMatchObject(refusal);
    await expect(keptModels.delete(name)).rejects.toMatchObject(refusal);
  });

  test("relative addresses need a base", () => {
    expect(urls("/m.gguf", { baseUrl: "https://a.example/b/c" })).toEqual(["https://a.example/m.gguf"]);
    expect(urls("https://a.example/m.gguf#x")).toEqual(["https://a.example/m.gguf"]);
    expect(() => remoteFiles("/m.gguf")).toThrow(expect.objectContaining({ code: "invalid_config", message: expect.stringContaining("baseUrl") }));
    expect(() => remoteFiles("hf:o/r/f.gguf", { hfEndpoint: "mirror" })).toThrow(expect.objectContaining({ code: "invalid_config" }));
  });

  test("split models have all their parts, queries stay", () => {
    expect(urls("https://a.example/m-00002-of-00003.gguf?x=1")).toEqual([1, 2, 3].map((i) => `https://a.example/m-0000${i}-of-00003.gguf?x=1`));
    expect(remoteFiles("hf:o/r/m-00001-of-00002.gguf")[1]?.pointer?.href).toBe("https://huggingface.co/o/r/raw/main/m-00002-of-00002.gguf");
    expect(() => remoteFiles("https://a.example/m-00004-of-00003.gguf")).toThrow(expect.objectContaining({ code: "invalid_config" }));
    expect(splitOf("m.gguf")).toBeUndefined();
  });

  test("hashes are checked before anything is fetched", async () => {
    const model = "https://a.example/m-00001-of-00002.gguf";
    await expect(openModel(model, { sha256: "00" })).rejects.toMatchObject({ code: "invalid_config", message: expect.stringContaining("2 files") });
    await expect(openModel("https://a.example/m.gguf", { sha256: "00" })).rejects.toMatchObject({ code: "invalid_config", message: expect.stringContaining("64") });
  });
});

describe("secrets in addresses", () => {
  test.each([
    ["https://u:p@h.example/a/m.gguf?x=1#y", "https://h.example/a/m.gguf"], ["https://h.example/a@b/m.gguf", "https://h.example/a@b/m.gguf"],
    ["//u:p@h/m?x", "//h/m"], ["m.gguf?x", "m.gguf"], ["m.gguf#x\ny", "m.gguf"], ["hf:a/b/c.gguf@v1", "hf:a/b/c.gguf@v1"],
  ])("%s is shown as %s", (address, expected) => expect(shown(address)).toBe(expected));

  test.each([
    ["X-Amz-Algorithm=A&X-Amz-Date=1&X-Amz-Signature=2&X-Amz-Security-Token=3&versionId=4", "?versionId=4"],
    ["X-Goog-Signature=1&X-Goog-Date=2", ""],
    ["Expires=1&Signature=2&Key-Pair-Id=3&file=a", "?file=a"], ["Policy=1&Signature=2&Key-Pair-Id=3", ""],
    ["AWSAccessKeyId=1&Expires=2&Signature=3", ""],
    ["sv=1&se=2&sr=b&sp=r&sig=3", ""], ["token=1&a=b%20c&d=+", "?a=b%20c&d=+"], ["expires=1&access_token=2", ""], ["%73ig=1&sv=2", ""],
    // No signature, no part of one.
    ["expires=1&policy=2&sv=3&se=4", "?expires=1&policy=2&sv=3&se=4"], ["id=1", "?id=1"], ["id=2", "?id=2"], ["", ""],
  ])("?%s is kept under %j", (query, expected) => {
    const url = "https://h.example/m.gguf";
    expect(remoteFiles(`${url.replace("//", "//u:p@")}?${query}#x`)[0]?.key).toBe(`${url}${expected}`);
  });

  test("a cacheKey names every part", () => {
    expect(remoteFiles("https://h/m-00002-of-00002.gguf", { cacheKey: "k" }).map(({ key }) => key)).toEqual(["key:k#1", "key:k#2"]);
  });
});

test("digests as servers write them", () => {
  const hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  const base64 = Buffer.from(hash, "hex").toString("base64");
  const of = (headers: Record<string, string>) => digestOf(new Headers(headers));
  expect(of({ "repr-digest": `sha-256=:${base64}:` })).toBe(hash);
  expect(of({ digest: `md5=xyz,SHA-256=${base64}` })).toBe(hash);
  expect(of({ "x-linked-etag": `"${hash}"` })).toBe(hash);
  expect(of({ "x-linked-etag": '"d6ceb92ce9e3c83ab146dc8e92a93517ac1cc66f"' })).toBeUndefined();
  expect(of({ "content-digest": `sha-256=:${base64}:` })).toBeUndefined();
  expect(of({})).toBeUndefined();
});

test("one file or another", () => {
  expect(sameFile({ etag: '"a"', size: 1 }, { etag: 'W/"a"', size: 1 })).toBe(true);
  expect(sameFile({ etag: '"a"', size: 1 }, { etag: '"b"', size: 1 })).toBe(false);
  expect(sameFile({ etag: '"a"', size: 1 }, { etag: '"a"', size: 2 })).toBe(false);
  expect(sameFile({ lastModified: "x" }, { lastModified: "y" })).toBe(false);
  expect(sameFile({ size: 1 }, { size: 1 })).toBe(true);
  expect(sameFile({}, {})).toBe(false);
});

test("progress adds parts up, and forgets what a restart takes back", () => {
  const seen: Progress[] = [];
  const meter = new ProgressMeter(2, (p) => seen.push(p));
  meter.setSize(0, 10);
  meter.set(0, 10, "download", true);
  meter.setSize(1, 5);
  meter.set(1, 5, "cache", true);
  expect(seen.map(({ loaded, total }) => [loaded, total])).toEqual([[10, undefined], [15, 15]]);
  meter.setSize(1, 7);
  meter.set(1, 7, "download", false);
  expect(seen.at(-1)).toMatchObject({ loaded: 17, total: 17, cached: false });
});

test("without a browser's storage the cache is empty, not an error", async () => {
  expect(await keptModels.list()).toEqual([]);
  expect(await keptModels.size()).toBe(0);
  await keptModels.clear();
});
