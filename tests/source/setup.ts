import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import type { Page } from "playwright-core";
import { vi } from "vitest";
import { launch } from "../../scripts/browser.mjs";
import { serve } from "../support/server.mjs";
import type { Context, Job, Result } from "./harness.js";

// A busy machine is slow, not wrong.
vi.setConfig({ testTimeout: 30_000, hookTimeout: 30_000 });

export const MIB = 1 << 20;
/** Bytes that a download which goes on fetches again, to compare them. */
export const OVERLAP = 1024;

/** Bytes without a pattern that a wrong offset could match. */
export function noise(size: number, seed: number): Uint8Array {
  const words = new Uint32Array(size / 4);
  let x = seed >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  return new Uint8Array(words.buffer);
}

export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** A server with the harness, and a Chromium. */
export async function start() {
  const bundle = await build({
    entryPoints: [fileURLToPath(new URL("harness.ts", import.meta.url))], bundle: true, format: "esm", target: "es2022", write: false,
  });
  const server = await serve({});
  const put = () => {
    server.file("/", Buffer.from("<!doctype html><title>harness</title><script type=module src=/harness.js></script>"), { "content-type": "text/html" });
    server.file("/harness.js", bundle.outputFiles[0]!.contents, { "content-type": "text/javascript" });
  };
  put();
  const context = await launch();
  const tab = async (): Promise<Page> => {
    const page = await context.newPage();
    await page.goto(`${server.origin}/`);
    await page.waitForFunction("typeof run === 'function'");
    return page;
  };
  const keeper = await tab();
  return {
    server,
    context,
    /** A tab with the harness loaded. */
    tab,
    /** A tab that stays open. */
    keeper,
    /** Empty cache, no files but the harness, no faults. */
    async fresh(): Promise<void> {
      server.reset();
      put();
      for (const page of context.pages()) if (page !== keeper) await page.close();
      await run(keeper, "page", { do: "clear" });
      server.requests.length = 0;
    },
    async stop(): Promise<void> {
      await context.close();
      await server.close();
    },
  };
}

/** Does a job in a context of a tab. */
export const run = (page: Page, context: Context, job: Job): Promise<Result> =>
  page.evaluate(([context, job]) => (globalThis as unknown as { run(c: Context, j: Job): Promise<Result> }).run(context, job), [context, job] as const);
