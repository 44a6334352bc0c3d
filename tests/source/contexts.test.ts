// What must hold wherever the engine runs: a page, a dedicated worker, a shared worker. Real Chromium, real server.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Page } from "playwright-core";
import type { CachedModel } from "../../www/embergram/source/index.js";
import { MIB, noise, OVERLAP, run, sha256, start } from "./setup.js";

const SIZE = 10 * MIB;
const CUT = Math.floor(SIZE * 0.4);
const bytes = noise(SIZE, 1);
const good = [{ name: "model.gguf", size: SIZE, bytes: SIZE, sha256: sha256(bytes) }];

let house: Awaited<ReturnType<typeof start>>;
beforeAll(async () => { house = await start(); });
afterAll(() => house?.stop());

describe.each(["page", "dedicated", "shared"] as const)("in a %s context", (context) => {
  let tab: Page;
  const load = (more = {}) => run(tab, context, { do: "load", input: "/model.gguf", options: { retryDelay: 20, baseUrl: house.server.origin }, ...more });
  /** Where the second request started: at the cut, less what the browser throws away when a connection breaks. */
  const resumed = () => {
    const at = Number(/^bytes=(\d+)-$/.exec(ranges()[1] ?? "")?.[1]);
    expect(at).toBeGreaterThan(CUT / 4);
    expect(at).toBeLessThanOrEqual(CUT);
    return at;
  };
  const ranges = () => house.server.of("/model.gguf").map((r) => r.headers.range);
  beforeEach(async () => {
    await house.fresh();
    house.server.file("/model.gguf", bytes);
    tab = await house.tab();
  });

  test("a download arrives whole, and the second load needs no server", async () => {
    const first = await load();
    expect(first.error).toBeUndefined();
    expect(first.parts).toEqual(good);
    expect(first.progress.at(-1)).toMatchObject({ phase: "download", loaded: SIZE, total: SIZE, cached: true });
    expect(first.progress.some((p) => p.rate > 0)).toBe(true);
    expect(ranges()).toEqual(["bytes=0-"]);
    await tab.close();
    tab = await house.tab();
    await run(tab, context, { do: "size" });
    await house.server.stop();
    try {
      const second = await load();
      expect(second.error).toBeUndefined();
      expect(second.parts).toEqual(good);
      expect(second.progress.every((p) => p.phase === "cache" && p.cached)).toBe(true);
      expect(second.progress.at(-1)).toMatchObject({ loaded: SIZE, total: SIZE });
      expect(second.largest).toBeLessThanOrEqual(4 * MIB);
      const list = (await run(tab, context, { do: "list" })).value as CachedModel[];
      expect(list).toEqual([{ model: `${house.server.origin}/model.gguf`, url: `${house.server.origin}/model.gguf`, key: expect.stringMatching(/^[0-9a-f]{40}$/), bytes: SIZE, complete: true, lastUsed: expect.any(Number), sha256: good[0]!.sha256 }]);
      expect(Date.now() - list[0]!.lastUsed).toBeLessThan(60_000);
    } finally {
      await house.server.start();
    }
  });

  test("a connection cut at 40 % goes on at that byte, in the same load", async () => {
    house.server.fault("/model.gguf", (_, n) => (n === 1 ? { cutAfter: CUT, rate: 10 * MIB } : {}));
    const result = await load();
    expect(result.error).toBeUndefined();
    expect(result.parts).toEqual(good);
    expect(house.server.of("/model.gguf")).toHaveLength(2);
    expect(house.server.of("/model.gguf")[1]).toMatchObject({ status: 206, sent: SIZE - resumed() });
  });

  test("a load that failed at 40 % goes on there in the next page", async () => {
    house.server.fault("/model.gguf", (_, n) => (n === 1 ? { cutAfter: CUT, rate: 10 * MIB } : {}));
    const failed = await load({ options: { retries: 0, baseUrl: house.server.origin } });
    expect(failed.error).toMatchObject({ name: "EmbergramError", code: "network", message: expect.stringContaining(`${house.server.origin}/model.gguf`) });
    await tab.close();
    tab = await house.tab();
    const list = (await run(tab, context, { do: "list" })).value as CachedModel[];
    expect(list).toMatchObject([{ complete: false }]);
    const result = await load();
    expect(result.parts).toEqual(good);
    expect(resumed()).toBe(list[0]!.bytes - OVERLAP);
    expect(ranges()).toHaveLength(2);
    expect(result.progress.map((p) => p.phase)).toEqual(expect.arrayContaining(["cache", "download"]));
    expect((await run(tab, context, { do: "size" })).value).toBe(SIZE);
  });

  test("a tab closed in the middle loses at most the piece it was in", async () => {
    house.server.fault("/model.gguf", (_, n) => (n === 1 ? { stallAfter: 7 * MIB } : {}));
    void load({ holdAfter: 5 * MIB }).catch(() => {});
    await expect.poll(async () => ((await run(house.keeper, "page", { do: "size" })).value as number), { timeout: 10_000 }).toBeGreaterThanOrEqual(4 * MIB);
    await tab.close();
    tab = await house.tab();
    const result = await load();
    expect(result.error).toBeUndefined();
    expect(result.parts).toEqual(good);
    expect(ranges()).toEqual(["bytes=0-", `bytes=${4 * MIB - OVERLAP}-`]);
  });

  const damages = [
    ["a flipped bit", { piece: "1", how: "flip" }, `bytes=${4 * MIB - OVERLAP}-`],
    ["a shortened piece", { piece: "2", how: "shorten" }, `bytes=${8 * MIB - OVERLAP}-`],
    ["a missing piece", { piece: "0", how: "remove" }, "bytes=0-"],
    ["a torn index", { piece: "meta.json", how: "shorten" }, "bytes=0-"],
  ] as const;
  // Reading is the same code everywhere.
  test.each(context === "dedicated" ? damages : damages.slice(0, 1))("%s in the cache is found and fetched again", async (_, damage, range) => {
    await load();
    await run(tab, context, { do: "damage", input: "/model.gguf", damage });
    const result = await load();
    expect(result.error).toBeUndefined();
    expect(result.parts).toEqual(good);
    expect(result.restarts).toBe(0);
    expect(ranges()).toEqual(["bytes=0-", range]);
    const third = await load();
    expect(third.parts).toEqual(good);
    expect(ranges()).toHaveLength(2);
    expect((await run(tab, context, { do: "size" })).value).toBe(SIZE);
  });
});
