// What is kept and shared: quota, tabs side by side, split models, the hub, files, the cache's own API. Real Chromium.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Page } from "playwright-core";
import type { CachedModel } from "../../www/embergram/source/index.js";
import { pattern, type Context, type Job } from "./harness.js";
import { MIB, noise, OVERLAP, run, sha256, start } from "./setup.js";

const SIZE = 10 * MIB;
const bytes = noise(SIZE, 4);
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

const load = (options: Job["options"] = {}, more: Partial<Job> = {}, where: Page = tab, context: Context = "dedicated") =>
  run(where, context, { do: "load", input: PATH, ...more, options: { retryDelay: 10, ...options } });
const seen = () => house.server.of(PATH);
const ask = async <T>(what: Job["do"], more: Partial<Job> = {}) => (await run(tab, "dedicated", { do: what, ...more })).value as T;

describe("quota", () => {
  /** What the browser grants this origin, while the returned session lives. */
  async function grant(quotaSize: number) {
    const session = await house.context.newCDPSession(tab);
    await session.send("Storage.overrideQuotaForOrigin", { origin: house.server.origin, quotaSize });
    return session;
  }

  test.each(["page", "dedicated", "shared"] as const)("too little is an error before the download, and cache: false loads all the same (%s)", async (context) => {
    const session = await grant(8 * MIB);
    try {
      const refused = await load({}, {}, tab, context);
      expect(refused.error).toMatchObject({ name: "EmbergramError", code: "quota" });
      expect(refused.error?.message).toMatch(/needs 10\.5 MB of storage, more than .*cache: false/);
      expect(refused.progress).toEqual([]);
      expect(await ask("size")).toBe(0);
      expect((await load({ cache: false }, {}, tab, context)).parts[0]?.sha256).toBe(HASH);
    } finally {
      await session.detach();
    }
  });

  describe("too little room for one more", () => {
    const model = (name: string) => `/${name}.gguf`;
    const put = (name: string, size: number) => house.server.file(model(name), noise(size, size + name.charCodeAt(0)));
    const kept = async () => (await ask<CachedModel[]>("list")).map(({ url }) => new URL(url).pathname.slice(1, -5)).sort().join("");
    const bring = (name: string, more: Partial<Job> = {}) => load({}, { input: model(name), ...more });
    let session: Awaited<ReturnType<typeof grant>>;
    beforeEach(async () => {
      put("a", 4 * MIB);
      put("b", 4 * MIB);
      // Chromium grants a file that is being written the next power of two.
      session = await grant(14 * MIB);
    });
    afterEach(() => session.detach());

    test("the least recently used goes, and no more than must", async () => {
      put("c", 7 * MIB);
      await bring("a");
      await bring("b");
      await bring("a");
      const result = await bring("c");
      expect(result.error).toBeUndefined();
      expect(result.progress.at(-1)).toMatchObject({ phase: "download", cached: true });
      expect(await kept()).toBe("ac");
      expect((await bring("c")).progress.at(-1)?.phase).toBe("cache");
    });

    test("one that began and did not end goes like another", async () => {
      put("c", 7 * MIB);
      await bring("a", { returnAfter: 3 * MIB });
      await bring("b");
      expect((await bring("c")).error).toBeUndefined();
      expect(await kept()).toBe("bc");
    });

    test("what another tab reads stays, though it is the least recently used", async () => {
      put("c", 7 * MIB);
      await bring("a");
      const second = await house.tab();
      void load({}, { input: model("a"), holdAfter: 1 }, second).catch(() => {});
      // Its use begins with a note of the time.
      const before = (await ask<CachedModel[]>("list"))[0]!.lastUsed;
      await expect.poll(async () => (await ask<CachedModel[]>("list"))[0]!.lastUsed, { timeout: 10_000 }).toBeGreaterThan(before);
      await bring("b");
      expect((await bring("c")).error).toBeUndefined();
      expect(await kept()).toBe("ac");
    });

    test("nothing goes for a model that would not fit even then", async () => {
      put("c", 20 * MIB);
      await bring("a");
      await bring("b");
      expect((await bring("c")).error).toMatchObject({ code: "quota" });
      expect(await kept()).toBe("ab");
    });

    test("the parts of a split model do not drive each other out", async () => {
      const part = (i: number) => `/split-0000${i}-of-00002.gguf`;
      for (const i of [1, 2]) {
        house.server.file(part(i), noise(8 * MIB, i));
        // Without HEAD and lengths nobody can look ahead.
        house.server.fault(part(i), () => ({ chunked: true, ignoreRange: true }));
      }
      const result = await load({}, { input: part(1) });
      expect(result.error).toBeUndefined();
      expect(result.progress.at(-1)?.cached).toBe(false);
      expect(await kept()).toBe("split-00001-of-00002");
    });

    test("a part that is there is not given up for one that does not fit", async () => {
      const part = (i: number) => `/split-0000${i}-of-00002.gguf`;
      for (const i of [1, 2]) house.server.file(part(i), noise(4 * MIB, i));
      await load({}, { input: part(1) });
      expect(await ask("delete", { listed: (await ask<CachedModel[]>("list")).find(({ url }) => url.endsWith(part(2)))! })).toBe(true);
      house.server.file(part(2), noise(12 * MIB, 2));
      expect((await load({}, { input: part(1) })).error).toMatchObject({ code: "quota" });
      expect(await kept()).toBe("split-00001-of-00002");
    });
  });

  test("a split model must fit as a whole", async () => {
    for (const part of [1, 2]) house.server.file(`/split-0000${part}-of-00002.gguf`, noise(5 * MIB, part));
    const session = await grant(8 * MIB);
    try {
      expect((await load({}, { input: "/split-00001-of-00002.gguf" })).error).toMatchObject({ code: "quota" });
      expect(house.server.requests.filter((r) => r.path.startsWith("/split")).map((r) => r.method)).toEqual(["HEAD", "HEAD"]);
    } finally {
      await session.detach();
    }
  });

  test.each(["dedicated", "page"] as const)("that runs out though no length was told ends the caching, not the load (%s)", async (context) => {
    house.server.fault(PATH, () => ({ chunked: true, ignoreRange: true }));
    const session = await grant(6 * MIB);
    try {
      const result = await load({}, {}, tab, context);
      expect(result.error).toBeUndefined();
      expect(result.parts[0]?.sha256).toBe(HASH);
      expect(result.progress.at(-1)?.cached).toBe(false);
      expect(await ask("size")).toBe(0);
    } finally {
      await session.detach();
    }
  });
});

describe("side by side", () => {
  test("two tabs load at once: one download, both whole", async () => {
    house.server.fault(PATH, () => ({ rate: 20 * MIB }));
    const second = await house.tab();
    const results = await Promise.all([load({}, {}, tab), load({}, {}, second)]);
    for (const result of results) {
      expect(result.error).toBeUndefined();
      expect(result.parts[0]?.sha256).toBe(HASH);
    }
    expect(seen()).toHaveLength(1);
    expect(results.map((r) => r.progress.at(-1)?.phase).sort()).toEqual(["cache", "download"]);
    expect(await ask("size")).toBe(SIZE);
  });

  test("two loads in one worker and one in the page", async () => {
    house.server.fault(PATH, () => ({ rate: 20 * MIB }));
    const results = await Promise.all([load(), load(), load({}, {}, tab, "page")]);
    expect(results.map((r) => r.parts[0]?.sha256)).toEqual([HASH, HASH, HASH]);
    expect(seen()).toHaveLength(1);
  });

  test("the tab that downloads is closed: the other takes its place", async () => {
    house.server.fault(PATH, (_, n) => (n === 1 ? { stallAfter: 6 * MIB } : {}));
    const first = await house.tab();
    void load({}, {}, first).catch(() => {});
    await expect.poll(() => ask("size"), { timeout: 10_000 }).toBe(4 * MIB);
    const following = load();
    await new Promise((done) => setTimeout(done, 400));
    expect(seen()).toHaveLength(1);
    await first.close();
    const result = await following;
    expect(result.error).toBeUndefined();
    expect(result.parts[0]?.sha256).toBe(HASH);
    expect(seen().map((r) => r.headers.range)).toEqual(["bytes=0-", `bytes=${4 * MIB - OVERLAP}-`]);
    expect(await ask("size")).toBe(SIZE);
  });

  test.each([undefined, HASH])("a tab that holds a download and does not go on is not waited for (sha256 %s)", async (hash) => {
    const first = await house.tab();
    void load({}, { holdAfter: 9 * MIB }, first).catch(() => {});
    await expect.poll(() => ask("size"), { timeout: 10_000 }).toBe(8 * MIB);
    const result = await load({ timeout: 500, ...(hash ? { sha256: hash } : {}) });
    expect(result.error).toBeUndefined();
    expect(result.restarts).toBe(0);
    expect(result.parts[0]?.sha256).toBe(HASH);
    expect(result.progress.at(-1)).toMatchObject({ phase: "download", cached: false });
    expect(seen().map((r) => r.headers.range)).toEqual(["bytes=0-", `bytes=${8 * MIB - OVERLAP}-`]);
  });

  test("deleted while it loads: the load goes on, nothing stays", async () => {
    house.server.fault(PATH, () => ({ rate: 10 * MIB }));
    const loading = load();
    await expect.poll(() => ask("size"), { timeout: 10_000 }).toBeGreaterThanOrEqual(4 * MIB);
    expect(await ask("delete", { input: PATH })).toBe(true);
    const result = await loading;
    expect(result.error).toBeUndefined();
    expect(result.parts[0]?.sha256).toBe(HASH);
    expect(result.progress.at(-1)?.cached).toBe(false);
    expect(await ask("list")).toEqual([]);
  });
});

describe("split models", () => {
  const parts = [5 * MIB, 4 * MIB, MIB].map((size, i) => noise(size, 10 + i));
  const name = (i: number) => `/big-0000${i + 1}-of-00003.gguf`;
  const hashes = parts.map(sha256);
  beforeEach(() => parts.forEach((part, i) => house.server.file(name(i), part)));

  test("all parts come in order, whichever is named, and once only", async () => {
    const result = await load({ sha256: hashes }, { input: name(1) });
    expect(result.error).toBeUndefined();
    expect(result.parts).toEqual(parts.map((part, i) => ({ name: name(i).slice(1), size: part.length, bytes: part.length, sha256: hashes[i] })));
    expect(result.progress.map((p) => p.total)).toEqual(result.progress.map(() => SIZE));
    const before = house.server.requests.length;
    expect((await load({}, { input: name(0) })).parts.map((p) => p.sha256)).toEqual(hashes);
    expect(house.server.requests).toHaveLength(before);
    expect(await ask<CachedModel[]>("list")).toHaveLength(3);
    expect(await ask("delete", { input: name(2) })).toBe(true);
    expect(await ask("size")).toBe(0);
  });

  test("a part that is not there is named before the download", async () => {
    house.server.fault(name(2), () => ({ status: 404 }));
    const result = await load({}, { input: name(0) });
    expect(result.error).toMatchObject({ code: "http", message: expect.stringContaining(name(2)) });
    expect(result.progress).toEqual([]);
  });

  test("a server that answers no HEAD", async () => {
    parts.forEach((_, i) => house.server.fault(name(i), (r) => (r.method === "HEAD" ? { status: 405 } : {})));
    expect((await load({}, { input: name(0) })).parts.map((p) => p.sha256)).toEqual(hashes);
  });
});

describe("hf: names", () => {
  const pointer = (hash: string) => Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${hash}\nsize ${SIZE}\n`);
  const input = "hf:owner/repo/sub/model.gguf@v2";
  const door = (which: string) => `/owner/repo/${which}/v2/sub/model.gguf`;
  const options = () => ({ hfEndpoint: house.server.origin });

  test("the file is resolved, its pointer says what it must hash to", async () => {
    house.server.file(door("resolve"), bytes);
    house.server.file(door("raw"), pointer(HASH), {});
    expect((await load(options(), { input })).parts).toEqual([{ name: "model.gguf", size: SIZE, bytes: SIZE, sha256: HASH }]);
    const before = house.server.requests.length;
    expect((await load(options(), { input })).parts[0]?.sha256).toBe(HASH);
    expect(house.server.requests).toHaveLength(before);
    expect(await ask("delete", { input, options: options() })).toBe(true);
  });

  test("bytes that are not the pointer's are refused", async () => {
    house.server.file(door("resolve"), bytes);
    house.server.file(door("raw"), pointer(sha256(pattern(9))), {});
    expect((await load(options(), { input })).error).toMatchObject({ code: "invalid_file" });
    expect(await ask("size")).toBe(0);
  });

  test("a file outside LFS has no pointer, and loads", async () => {
    house.server.file(door("resolve"), bytes);
    house.server.file(door("raw"), bytes, {});
    expect((await load(options(), { input })).parts[0]?.sha256).toBe(HASH);
    expect(house.server.of(door("raw"))[0]?.sent).toBeLessThanOrEqual(1024);
  });
});

describe("files", () => {
  test("a Blob and a File stream, uncached", async () => {
    for (const file of [{ size: 3 * MIB }, { name: "mine.gguf", size: 3 * MIB }]) {
      const result = await load({ sha256: sha256(pattern(3 * MIB)) }, { files: [file] });
      expect(result.error).toBeUndefined();
      expect(result.parts).toEqual([{ name: file.name ?? "model.gguf", size: 3 * MIB, bytes: 3 * MIB, sha256: sha256(pattern(3 * MIB)) }]);
      expect(result.progress.at(-1)).toMatchObject({ phase: "file", loaded: 3 * MIB, total: 3 * MIB, cached: false });
    }
    expect(await ask("list")).toEqual([]);
  });

  test("the parts of a split model, in any order", async () => {
    const files = [3, 1, 2].map((part) => ({ name: `x-0000${part}-of-00003.gguf`, size: part * 1000 }));
    expect((await load({}, { files })).parts.map((p) => p.size)).toEqual([1000, 2000, 3000]);
    expect((await load({}, { files: files.slice(1) })).error).toMatchObject({ code: "invalid_config", message: expect.stringContaining("part 3 is missing") });
    expect((await load({}, { files: files.slice(1, 2) })).error).toMatchObject({ code: "invalid_config" });
  });

  test("another sha256, an abort", async () => {
    expect((await load({ sha256: HASH }, { files: [{ size: 9 }] })).error).toMatchObject({ code: "invalid_file" });
    expect((await load({}, { files: [{ size: 9 * MIB }], abortAfter: MIB })).error).toMatchObject({ code: "aborted" });
  });
});

describe("signed addresses", () => {
  const signed = (secret: string, more = "") => `${PATH}?${more}X-Amz-Expires=60&X-Amz-Signature=${secret}`;

  test("a new signature finds the same entry, also one that is not whole yet", async () => {
    await load({}, { input: signed("first"), returnAfter: 4 * MIB + 1 });
    const second = await load({}, { input: signed("second") });
    expect(second.parts[0]?.sha256).toBe(HASH);
    expect(second.progress[0]?.phase).toBe("cache");
    expect((await load({}, { input: signed("third") })).parts[0]?.sha256).toBe(HASH);
    expect(seen()).toHaveLength(2);
    expect(await ask("size")).toBe(SIZE);
    expect(await ask("delete", { input: signed("fourth") })).toBe(true);
  });

  test("other parameters choose the file", async () => {
    const other = noise(SIZE, 5);
    expect((await load({}, { input: signed("x", "id=1&") })).parts[0]?.sha256).toBe(HASH);
    house.server.file(PATH, other);
    expect((await load({}, { input: signed("y", "id=2&") })).parts[0]?.sha256).toBe(sha256(other));
    expect((await load({}, { input: signed("z", "id=1&") })).parts[0]?.sha256).toBe(HASH);
    const list = await ask<CachedModel[]>("list");
    expect(list.map(({ url }) => url)).toEqual([1, 2].map(() => `${house.server.origin}${PATH}`));
    expect(await ask("delete", { listed: list.find(({ sha256: hash }) => hash === HASH)! })).toBe(true);
    expect((await ask<CachedModel[]>("list")).map((m) => m.sha256)).toEqual([sha256(other)]);
  });

  test("cacheKey names the model, whatever its address", async () => {
    house.server.file("/elsewhere.gguf", bytes);
    await load({ cacheKey: "mine" });
    expect((await load({ cacheKey: "mine" }, { input: "/elsewhere.gguf?x=1" })).progress.at(-1)).toMatchObject({ phase: "cache" });
    expect(house.server.of("/elsewhere.gguf")).toEqual([]);
    expect(await ask("delete", { input: PATH })).toBe(false);
    expect(await ask("delete", { input: PATH, options: { cacheKey: "mine" } })).toBe(true);
    expect((await load({ cacheKey: "" })).error).toMatchObject({ code: "invalid_config", message: expect.stringContaining("cacheKey") });
  });

  test("nothing of them is said or stored", async () => {
    const said: unknown[] = [];
    const input = signed("SECRET", "password=SECRET&");
    said.push(await load({}, { input }), await load({}, { input: `${input}#SECRET` }), await ask("list"), await ask("stored"));
    house.server.fault(PATH, () => ({ status: 403 }));
    await ask("clear");
    const failed = [
      await load({}, { input }), await load({ sha256: "00" }, { input }), await load({}, { input: `http://SECRET:SECRET@${house.server.origin.slice(7)}${input}` }),
      await load({}, { input: `hf:a/b/c.gguf?SECRET` }), await load({}, { input: `http://:SECRET@/?SECRET` }), await load({ baseUrl: "x?SECRET" }, { input }),
      await load({ hfEndpoint: "x?SECRET" }, { input: "hf:a/b/c.gguf" }), await load({}, { input: "/m-00003-of-00002.gguf?SECRET" }),
    ];
    expect(failed.map(({ error }) => error?.code)).toEqual(["http", "invalid_config", "network", ...new Array<string>(5).fill("invalid_config")]);
    expect(JSON.stringify([...said, ...failed])).not.toContain("SECRET");
    expect(JSON.stringify(said)).toContain(PATH);
  });
});

describe("the cache's own API", () => {
  test("lists, deletes one, clears", async () => {
    house.server.file("/b.gguf", noise(MIB, 5));
    await load();
    await load({}, { input: "/b.gguf" });
    expect((await ask<CachedModel[]>("list")).map((m) => [new URL(m.url).pathname, m.bytes, m.complete])).toEqual([["/b.gguf", MIB, true], [PATH, SIZE, true]]);
    expect(await ask("size")).toBe(SIZE + MIB);
    expect(await ask("delete", { input: "/nothing.gguf" })).toBe(false);
    expect(await ask("delete", { input: PATH })).toBe(true);
    expect(await ask("size")).toBe(MIB);
    await ask("clear");
    expect(await ask("list")).toEqual([]);
  });

  test("cache: false keeps nothing", async () => {
    const result = await load({ cache: false });
    expect(result.parts[0]?.sha256).toBe(HASH);
    expect(result.progress.every((p) => !p.cached)).toBe(true);
    expect(await ask("list")).toEqual([]);
  });
});
