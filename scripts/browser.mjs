// A headless Chromium with WebGPU, and the package in a page of it.
import { join } from "node:path";
import { chromium as playwright } from "playwright-core";
import { dist } from "./build.mjs";
import { serve } from "./serve.mjs";
import { chromium as executable, root } from "./setup.mjs";

const FLAGS = [
  "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
// Machines without a GPU compute on SwiftShader, which Chromium offers only when asked.
const ADAPTER = "--enable-unsafe-webgpu";

/** Launches it with a fresh profile, which goes when it closes; returns playwright's context. */
export async function launch({ args = [], profile = "", webgpu = true, ...options } = {}) {
  return playwright.launchPersistentContext(profile, {
    executablePath: executable(), headless: false, args: [...FLAGS, ...(webgpu ? [ADAPTER] : []), ...args], ...options,
  });
}

/**
 * The built package in a page of a real Chromium, as `globalThis.embergram`, with `places` (see `serve`) beside it.
 * `newPage` opens a further tab.
 */
export async function openPackage({ places = {}, server: serverOptions, ...options } = {}) {
  const server = await serve({ "/dist/": dist, "/": join(root, "scripts/page"), ...places }, serverOptions);
  const context = await launch(options);
  const newPage = async () => {
    const page = await context.newPage();
    page.on("pageerror", (error) => console.error(error));
    page.on("console", (message) => message.type() === "error" && console.error(message.text()));
    await page.goto(server.url);
    const content = 'import * as embergram from "/dist/index.js"; globalThis.embergram = embergram;';
    await page.addScriptTag({ type: "module", content });
    await page.waitForFunction(() => globalThis.embergram);
    return page;
  };
  const close = async () => {
    await context.close();
    await server.close();
  };
  return { server, context, page: await newPage(), newPage, close };
}
