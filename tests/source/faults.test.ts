// A server that misbehaves in every way we know, and what the load makes of it. In a dedicated worker of a real Chromium.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { serve } from "../support/server.mjs";
import type { Job } from "./harness.js";
import { MIB, noise, OVERLAP, run, sha256, start } from "./setup.js";

const SIZE = 6 * MIB;
const CUT = 5 * MIB;
const bytes = noise(SIZE, 2);
const other = noise(SIZE, 3);
const HASH = sha256(bytes);
const PATH = "/model.gguf";

let house: Awaited<ReturnType<typeof start>>;
let tab: Page;
beforeAll(async () => { house = await start(); });
afterAll(() => house?.stop());
beforeEach(async () => {
  await house.fresh();
  house.server.file(PATH, bytes);
  tab = house.keeper;
});

const load = (options: Job["options"] = {}, more: Partial<Job> = {}) =>
  run(tab, "dedicated", { do: "load", input: PATH, ...more, options: { retryDelay: 10, ...options } });
const seen = () => house.server.of(PATH);
const size = async () => (await run(tab, "dedicated", { do: "size" })).value;

describe("statuses", () => {
  test.each([
    [404, "hf: name"], [403, "Authorization"], [418, "plain GET"],
  ])("%i ends the load at once and says what to do", async (status, advice) => {
    house.server.fault(PATH, () => ({ status }));
    const { error } = await load();
    expect(error).toMatchObject({ name: "EmbergramError", code: "http" });
    expect(error?.message).toContain(`${house.server.origin}${PATH} answered ${status}`);
    expect(error?.message).toContain(advice);
    expect(seen()).toHaveLength(1);
  });

  test("503 is tried again, as late as the server asks", async () => {
    house.server.fault(PATH, (_, n) => (n === 1 ? { status: 503, headers: { "retry-after": "1" } } : n === 2 ? { status: 500 } : {}));
    const result = await load();
    expect(result.parts[0]?.sha256).toBe(HASH);
    expect(result.ms).toBeGreaterThan(1000);
    expect(seen().map((r) => r.status)).toEqual([503, 500, 206]);
  });

  test("503 for ever is an http error after the retries", async () => {
    house.server.fault(PATH, () => ({ status: 503 }));
    const { error } = await load({ retries: 2 });
    expect(error).toMatchObject({ code: "http", message: expect.stringContaining("503") });
    expect(seen()).toHaveLength(3);
  });

  test("an empty file", async () => {
    house.server.file(PATH, new Uint8Array(0));
    expect((await load()).error).toMatchObject({ code: "truncated_file" });
  });
});

describe("connections", () => {
  test("no server is a network error after the retries", async () => {
    await run(tab, "dedicated", { do: "size" });
    await house.server.stop();
    try {
      const { error } = await load({ retries: 2 });
      expect(error).toMatchObject({ code: "network", message: expect.stringContaining("Check the connection") });
    } finally {
      await house.server.start();
    }
  });

  test("a connection that breaks again and again costs no byte twice", async () => {
    house.server.fault(PATH, (_, n) => (n <= 4 ? { cutAfter: MIB } : {}));
    const result = await load();
    expect(result.error).toBeUndefined();
    expect(result.parts[0]?.sha256).toBe(HASH);
    expect(seen().length).toBeGreaterThanOrEqual(3);
  });

  test("retries wait longer each time", async () => {
    house.server.fault(PATH, () => ({ status: 500 }));
    await load({ retries: 3, retryDelay: 200 });
    // 200, 400 and 800, each between half and all of it; timers count whole milliseconds.
    const pauses = seen().slice(1).map((r, i) => r.time - seen()[i]!.time);
    expect(pauses).toHaveLength(3);
    pauses.forEach((pause, i) => expect(pause).toBeGreaterThan(100 * 2 ** i - 2));
  });

  test("a connection that falls silent counts as broken", async () => {
    house.server.fault(PATH, (_, n) => (n === 1 ? { stallAfter: 3 * MIB } : n === 2 ? { delay: 5000 } : {}));
    const result = await load({ timeout: 300 });
    expect(result.error).toBeUndefined();
    expect(result.parts[0]?.sha256).toBe(HASH);
    expect(seen()).toHaveLength(3);
  });
});

describe("abort", () => {
  test("in the download: at once, and a later load goes on", async () => {
    house.server.fault(PATH, (_, n) => (n === 1 ? { stallAfter: 5 * MIB } : {}));
    const result = await load({}, { abortAfter: 4 * MIB + 1 });
    expect(result.error).toMatchObject({ name: "AbortError", code: "aborted" });
    expect(result.ms).toBeLessThan(2000);
    const stored = await size();
    expect(stored).toBeGreaterThan(4 * MIB);
    expect((await load()).parts[0]?.sha256).toBe(HASH);
    expect(seen()[1]?.headers.range).toBe(`bytes=${Number(stored) - OVERLAP}-`);
  });

  test.each([
    ["before the first byte", { delay: 10_000 }], ["in a pause between retries", { status: 503, headers: { "retry-after": "30" } }],
  ])("%s", async (_, fault) => {
    house.server.fault(PATH, () => fault);
    const result = await load({}, { abortAfterMs: 200 });
    expect(result.error).toMatchObject({ code: "aborted" });
    expect(result.ms).toBeLessThan(1500);
  });

  test("with a fetch that does not listen", async () => {
    const result = await load({}, { abortAfterMs: 100, fetch: "deaf" });
    expect(result.error).toMatchObject({ code: "aborted" });
  });

  test("a reader that leaves early keeps what came, and no lock", async () => {
    const left = await load({}, { returnAfter: 2 * MIB });
    expect(left.error).toBeUndefined();
    expect(await size()).toBe(left.parts[0]?.bytes);
    expect((await load()).parts[0]?.sha256).toBe(HASH);
  });
});

describe("ranges and versions", () => {
  test("a server without ranges: the same file is read past what is there", async () => {
    house.server.fault(PATH, (_, n) => ({ ignoreRange: true, ...(n === 1 ? { cutAfter: CUT } : {}) }));
    const result = await load();
    expect(result.error).toBeUndefined();
    expect(result.restarts).toBe(0);
    expect(result.parts[0]?.sha256).toBe(HASH);
    expect(seen().map((r) => r.status)).toEqual([200, 200]);
  });

  test("another file behind the address in the middle of a load: start over", async () => {
    house.server.fault(PATH, (_, n) => {
      if (n !== 1) house.server.file(PATH, other, { etag: '"v2"' });
      return n === 1 ? { stallAfter: CUT } : {};
    });
    const result = await load({ timeout: 500 });
    expect(result.error).toBeUndefined();
    expect(result.restarts).toBe(1);
    expect(result.parts[0]).toMatchObject({ bytes: SIZE, sha256: sha256(other) });
    expect((await load()).parts[0]?.sha256).toBe(sha256(other));
  });

  test("another file behind the address at the next page: start over", async () => {
    await load({}, { returnAfter: 2 * MIB });
    house.server.file(PATH, other, { etag: '"v2"' });
    const result = await load();
    expect(result.restarts).toBe(1);
    expect(result.parts[0]?.sha256).toBe(sha256(other));
    expect(await size()).toBe(SIZE);
  });

  test("another file of the same length, from a server without validators, is caught by its sha256", async () => {
    house.server.file(PATH, bytes, {});
    await load({}, { returnAfter: 2 * MIB });
    house.server.file(PATH, other, {});
    const result = await load({ sha256: sha256(other) });
    expect(result.restarts).toBe(1);
    expect(result.parts[0]?.sha256).toBe(sha256(other));
  });

  describe.each([["its own", ""], ["another", "*"]])("another file of the same length, on %s origin without validators", (_, allowed) => {
    const input = () => `${allowed ? house.server.otherOrigin : house.server.origin}${PATH}`;
    // Another origin's are hidden where it does not expose them.
    const put = (file: Uint8Array, version: string) => house.server.file(PATH, file, allowed ? { etag: version } : {});
    beforeEach(() => put(bytes, '"v1"'));

    test("at the next page: start over", async () => {
      house.server.fault(PATH, () => ({ headers: { "access-control-allow-origin": allowed } }));
      await load({}, { input: input(), returnAfter: 2 * MIB });
      put(other, '"v2"');
      const result = await load({}, { input: input() });
      expect(result.error).toBeUndefined();
      expect(result.parts[0]?.sha256).toBe(sha256(other));
      expect(result.restarts).toBe(1);
      expect((await load({}, { input: input() })).parts[0]?.sha256).toBe(sha256(other));
    });

    test("in the middle of a load, from a server without ranges: start over", async () => {
      house.server.fault(PATH, (_, n) => {
        if (n !== 1) put(other, '"v2"');
        return { ignoreRange: true, headers: { "access-control-allow-origin": allowed }, ...(n === 1 ? { stallAfter: CUT } : {}) };
      });
      const result = await load({ timeout: 500 }, { input: input() });
      expect(result.error).toBeUndefined();
      expect(result.parts[0]?.sha256).toBe(sha256(other));
      expect(result.restarts).toBe(1);
    });
  });

  test("a connection that ends inside the bytes that are compared is tried again", async () => {
    house.server.fault(PATH, (_, n) => (n === 1 ? { stallAfter: CUT } : n === 2 ? { cutAfter: OVERLAP / 2 } : {}));
    const result = await load({ timeout: 500 });
    expect(result.error).toBeUndefined();
    expect(result.restarts).toBe(0);
    expect(result.parts[0]?.sha256).toBe(HASH);
  });

  test("a damaged entry whose file the server has replaced: start over", async () => {
    await load();
    await run(tab, "dedicated", { do: "damage", input: PATH, damage: { piece: "1", how: "flip" } });
    house.server.file(PATH, other, { etag: '"v2"' });
    const result = await load();
    expect(result.restarts).toBe(1);
    expect(result.parts[0]?.sha256).toBe(sha256(other));
  });

  test("a file that changes at every request is an error, not a loop", async () => {
    house.server.fault(PATH, (_, n) => ({ stallAfter: 4 * MIB, headers: { etag: `"v${n}"` } }));
    expect((await load({ timeout: 300 })).error).toMatchObject({ code: "invalid_file", message: expect.stringContaining("keeps changing") });
  });

  test("a length that is not told", async () => {
    house.server.fault(PATH, () => ({ chunked: true, ignoreRange: true }));
    const result = await load();
    expect(result.parts[0]).toMatchObject({ size: SIZE, sha256: HASH });
    expect(result.progress[0]?.total).toBeUndefined();
    expect(result.progress.at(-1)).toMatchObject({ loaded: SIZE, total: SIZE });
    expect((await load()).parts[0]?.sha256).toBe(HASH);
    expect(seen()).toHaveLength(1);
  });

  test("a static server with weak ETags (sirv)", async () => {
    const root = await mkdtemp(join(tmpdir(), "embergram-static-"));
    await writeFile(join(root, "m.gguf"), bytes);
    const files = await serve({ root, headers: { "access-control-allow-origin": "*" } });
    try {
      const input = `${files.origin}/m.gguf`;
      const left = await load({}, { input, returnAfter: 4 * MIB });
      expect(left.error).toBeUndefined();
      expect((await load({}, { input })).parts[0]?.sha256).toBe(HASH);
      expect(files.requests).toHaveLength(2);
    } finally {
      await files.close();
      await rm(root, { recursive: true });
    }
  });
});

describe("another origin", () => {
  const input = () => `${house.server.otherOrigin}${PATH}`;
  test("resumes without a preflight, though its headers are hidden", async () => {
    house.server.fault(PATH, (_, n) => ({ headers: { "access-control-allow-origin": "*" }, ...(n === 1 ? { cutAfter: CUT } : {}) }));
    const result = await load({}, { input: input() });
    expect(result.error).toBeUndefined();
    expect(result.parts[0]?.sha256).toBe(HASH);
    expect(seen().map((r) => r.method)).toEqual(["GET", "GET"]);
  });

  test("that the page's own redirects to", async () => {
    house.server.fault("/moved.gguf", () => ({ status: 302, headers: { location: input() } }));
    house.server.fault(PATH, (_, n) => ({ headers: { "access-control-allow-origin": "*" }, ...(n === 1 ? { cutAfter: CUT } : {}) }));
    const result = await load({}, { input: "/moved.gguf" });
    expect(result.error).toBeUndefined();
    expect(result.parts[0]?.sha256).toBe(HASH);
    expect(seen().map((r) => r.method)).toEqual(["GET", "GET"]);
    expect(seen()[1]?.status).toBe(206);
  });

  test("that forbids it: the error names CORS", async () => {
    const { error } = await load({ retries: 0 }, { input: input() });
    expect(error).toMatchObject({ code: "network", message: expect.stringContaining("CORS") });
  });
});

describe("sha256", () => {
  test("the caller's, right, also in capitals", async () => {
    expect((await load({ sha256: HASH.toUpperCase() })).error).toBeUndefined();
    expect((await load({ sha256: HASH })).progress.at(-1)?.phase).toBe("cache");
  });

  test("the caller's, wrong: an error, and nothing is kept", async () => {
    const wrong = sha256(other);
    const { error } = await load({ sha256: wrong });
    expect(error).toMatchObject({ code: "invalid_file" });
    expect(error?.message).toContain(wrong);
    expect(error?.message).toContain(HASH);
    expect(await size()).toBe(0);
  });

  test("a cached file that is not the one wanted now is fetched again", async () => {
    await load();
    house.server.file(PATH, other, { etag: '"v2"' });
    expect((await load({ sha256: sha256(other) })).parts[0]?.sha256).toBe(sha256(other));
    expect((await load()).parts[0]?.sha256).toBe(sha256(other));
    expect(seen()).toHaveLength(2);
  });

  test.each([
    ["Repr-Digest", (hash: string) => ({ "repr-digest": `sha-512=:AAAA:, sha-256=:${Buffer.from(hash, "hex").toString("base64")}:` })],
    ["Digest", (hash: string) => ({ digest: `SHA-256=${Buffer.from(hash, "hex").toString("base64")}` })],
    ["X-Linked-ETag", (hash: string) => ({ "x-linked-etag": `"${hash}"` })],
  ])("the server's %s is held to", async (_, headers) => {
    house.server.file(PATH, bytes, { etag: '"v1"', ...headers(HASH) });
    expect((await load()).error).toBeUndefined();
    await run(tab, "dedicated", { do: "clear" });
    house.server.file(PATH, bytes, { etag: '"v1"', ...headers(sha256(other)) });
    expect((await load()).error).toMatchObject({ code: "invalid_file" });
    expect(await size()).toBe(0);
    const early = await load({ sha256: HASH });
    expect(early.error).toMatchObject({ code: "invalid_file", message: expect.stringContaining("as its server says") });
    expect(early.progress).toEqual([]);
  });
});

test("a fetch of one's own", async () => {
  house.server.fault(PATH, (r) => (r.headers.authorization === "Bearer x" ? {} : { status: 401 }));
  expect((await load()).error).toMatchObject({ code: "http", message: expect.stringContaining("Authorization") });
  expect((await load({}, { fetch: "authorized" })).parts[0]?.sha256).toBe(HASH);
});
