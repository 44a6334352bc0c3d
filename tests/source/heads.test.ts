// The beginnings of a model's files, for their headers: by ranges, as far as they are read, kept nowhere. Real Chromium.
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { hub } from "../support/hub.mjs";
import { pattern, type Job } from "./harness.js";
import { MIB, noise, run, sha256, start } from "./setup.js";

const SIZE = 3 * MIB;
const KIB = 1 << 10;
const bytes = noise(SIZE, 4);
const beginning = (size: number) => sha256(bytes.subarray(0, size));

let house: Awaited<ReturnType<typeof start>>;
beforeAll(async () => {
  house = await start();
  // The worker's script is no part of what is counted.
  await kept();
});
afterAll(() => house?.stop());
beforeEach(async () => {
  await house.fresh();
  house.server.file("/m.gguf", bytes);
});

const heads = (more: Partial<Job> = {}) =>
  run(house.keeper, "dedicated", { do: "heads", input: "/m.gguf", ...more, options: { retryDelay: 10, baseUrl: house.server.origin, hfEndpoint: house.server.origin, ...more.options } });
const kept = async () => (await run(house.keeper, "dedicated", { do: "size" })).value;
const ranges = (path = "/m.gguf") => house.server.of(path).map(({ method, headers }) => `${method} ${headers.range ?? ""}`);

test.each([[1, 256 * KIB, ["GET bytes=0-262143"]], [300 * KIB, 768 * KIB, ["GET bytes=0-262143", "GET bytes=262144-786431"]]])(
  "%i bytes are read", async (most, read, asked) => {
    const result = await heads({ most });
    expect(result.parts).toMatchObject([{ bytes: read, sha256: beginning(read) }]);
    expect(result.value).toBe(SIZE);
    expect(ranges()).toEqual(asked);
    expect(house.server.of("/m.gguf").reduce((sum, { sent }) => sum + sent, 0)).toBe(read);
    expect(await kept()).toBe(0);
  },
);

test("to the end, where the header goes on", async () => {
  expect((await heads({ most: SIZE + 1 })).parts).toMatchObject([{ bytes: SIZE, sha256: sha256(bytes) }]);
  expect(ranges()).toHaveLength(4);
});

test("a server without ranges, and one that hides them", async () => {
  house.server.fault("/m.gguf", () => ({ ignoreRange: true }));
  expect(await heads({ most: 300 * KIB })).toMatchObject({ parts: [{ bytes: 768 * KIB, sha256: beginning(768 * KIB) }], value: SIZE });
  house.server.file("/hidden.gguf", bytes, { "access-control-allow-origin": "*" });
  const input = `${house.server.otherOrigin}/hidden.gguf`;
  expect(await heads({ input })).toMatchObject({ parts: [{ bytes: 256 * KIB, sha256: beginning(256 * KIB) }], value: SIZE });
  expect(ranges("/hidden.gguf")).toEqual(["GET bytes=0-262143", "HEAD "]);
});

test("a broken connection is tried again; a file that is not there, or changes, is an error", async () => {
  house.server.fault("/m.gguf", (_, n) => (n === 1 ? { cutAfter: 1000 } : {}));
  expect((await heads()).parts).toMatchObject([{ sha256: beginning(256 * KIB) }]);
  house.server.fault("/m.gguf", (_, n) => ({ headers: { etag: `"${n}"` } }));
  expect((await heads({ most: 300 * KIB })).error).toMatchObject({ code: "network", message: expect.stringContaining("changed") });
  expect((await heads({ input: "/none.gguf" })).error).toMatchObject({ code: "http", message: expect.stringContaining("404") });
  house.server.fault("/m.gguf", () => ({ cutAfter: 1000 }));
  expect((await heads({ options: { retries: 1 } })).error).toMatchObject({ code: "network" });
});

test("all parts of a split model, whose sizes are known without further questions", async () => {
  const part = (i: number) => `/s-0000${i}-of-00002.gguf`;
  for (const i of [1, 2]) house.server.file(part(i), noise(MIB, i));
  const result = await heads({ input: part(2) });
  expect(result.parts.map(({ sha256 }) => sha256)).toEqual([1, 2].map((i) => sha256(noise(MIB, i).subarray(0, 256 * KIB))));
  expect(result.value).toBe(2 * MIB);
  expect([1, 2].flatMap((i) => ranges(part(i)))).toEqual(["GET bytes=0-262143", "GET bytes=0-262143"]);
});

test("a repository's folder: the tree tells all sizes; config.json comes whole", async () => {
  const files = { "config.json": Buffer.from("{}"), "tokenizer.json": Buffer.from("[]"), "model.safetensors": bytes };
  const { tree, file } = hub(house.server, "o/r", files);
  const result = await heads({ input: "hf:o/r" });
  expect(result.files).toEqual([["config.json", "{}"]]);
  expect(result.value).toBe(SIZE + 4);
  expect(house.server.requests.map(({ path }) => path)).toEqual([tree, file("config.json"), file("model.safetensors")]);
  expect(await kept()).toBe(0);
});

test("what the cache holds is not fetched", async () => {
  await run(house.keeper, "dedicated", { do: "load", input: "/m.gguf", options: { baseUrl: house.server.origin } });
  house.server.requests.length = 0;
  const result = await heads({ most: 10 });
  expect(result.value).toBe(SIZE);
  expect(result.parts[0]!.bytes).toBe(SIZE);
  expect(house.server.requests).toEqual([]);
  expect((await heads({ options: { cache: false } })).parts[0]!.bytes).toBe(256 * KIB);
});

test("files of the user's", async () => {
  const result = await heads({ files: [{ name: "config.json", text: "{}" }, { name: "model.safetensors", size: MIB }] });
  expect(result.parts).toMatchObject([{ bytes: 256 * KIB, sha256: sha256(pattern(MIB).subarray(0, 256 * KIB)) }]);
  expect([result.files, result.value]).toEqual([[["config.json", "{}"]], MIB + 2]);
});
