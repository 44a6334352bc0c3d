// A real Chromium for tests: the system's, WebGPU on, with a profile of its own that goes away with it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

/** WebGPU on SwiftShader, and no talk to the outside. */
export const args = [
  "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--enable-unsafe-webgpu",
];

/**
 * Starts Chromium with a fresh user-data-dir (or the one given, which then stays).
 * @returns {Promise<{context: import("playwright-core").BrowserContext, profile: string,
 *   page(url: string): Promise<import("playwright-core").Page>, close(): Promise<void>}>}
 *   `page` opens a tab; `errors` collects what its pages threw.
 */
export async function launch({ profile, args: more = [] } = {}) {
  const directory = profile ?? await mkdtemp(join(tmpdir(), "embergram-chromium-"));
  const context = await chromium.launchPersistentContext(directory, {
    executablePath: process.env.EMBERGRAM_CHROMIUM ?? "/usr/bin/chromium",
    args: [...args, ...more],
  });
  const errors = [];
  context.on("weberror", (e) => errors.push(e.error()));
  return {
    context,
    profile: directory,
    errors,
    async page(url) {
      const page = await context.newPage();
      await page.goto(url);
      return page;
    },
    async close() {
      await context.close();
      if (profile === undefined) await rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    },
  };
}
