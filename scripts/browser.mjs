// A headless Chromium with WebGPU, and the package in a page of it.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium as playwright } from "playwright-core";
import { chromium as executable } from "./setup.mjs";

const FLAGS = [
  "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
  // Machines without a GPU compute on SwiftShader, which Chromium offers only when asked.
  "--enable-unsafe-webgpu",
];

/** Launches it with a profile of its own. Returns playwright's context; `close` also removes the profile. */
export async function launch({ args = [], ...options } = {}) {
  const profile = mkdtempSync(join(tmpdir(), "embergram-chromium-"));
  const context = await playwright.launchPersistentContext(profile, {
    executablePath: executable(), headless: false, args: [...FLAGS, ...args], ...options,
  });
  context.on("close", () => rmSync(profile, { recursive: true, force: true, maxRetries: 5 }));
  return context;
}
