// A headless Chromium with WebGPU, and the package in a page of it.
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chromium as playwright } from "playwright-core";
import { ISOLATED } from "./backend.mjs";
import { dist } from "./build.mjs";
import { serve } from "./serve.mjs";
import { cache, chromium as executable, root } from "./setup.mjs";
import { printable } from "./terminal.mjs";

const FLAGS = [
  "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
// Machines without a GPU compute on SwiftShader, which Chromium offers only when asked.
const ADAPTER = "--enable-unsafe-webgpu";

// What the package remembers of an adapter and its kernels (www/embergram/remember.ts), it remembers by origin. Each run has
// a port and so an origin of its own: the file hands on what earlier runs have found, which saves a load 10 to 15 seconds.
const remembered = join(cache, "remembered.json");
const facts = () => (existsSync(remembered) ? JSON.parse(readFileSync(remembered, "utf8")) : []);
/** Whole at any moment: another run may read it. */
function writeFacts(facts) {
  const fresh = `${remembered}.${process.pid}`;
  writeFileSync(fresh, JSON.stringify([...facts]));
  renameSync(fresh, remembered);
}

/** Runs in a page before its scripts, which take longer than this until they load a model. */
async function putFacts(facts) {
  if (!globalThis.isSecureContext || location.protocol === "about:") return;
  const cache = await caches.open("embergram");
  for (const [address, text] of facts) await cache.put(address, new Response(text));
}

/** Runs in the page. */
async function getFacts() {
  const cache = await caches.open("embergram");
  return Promise.all((await cache.keys()).map(async (key) => [key.url, await (await cache.match(key)).text()]));
}

/**
 * Launches it with a fresh profile, which goes when it closes; returns playwright's context. `fresh`: as on a machine that
 * has never loaded a model.
 */
export async function launch({ args = [], profile = "", webgpu = true, fresh = false, ...options } = {}) {
  const context = await playwright.launchPersistentContext(profile, {
    executablePath: executable(), headless: false, args: [...FLAGS, ...(webgpu ? [ADAPTER] : []), ...args], ...options,
  });
  if (!fresh) await context.addInitScript(putFacts, facts());
  return context;
}

/** Serves the built package with a page for it, and these places (see `serve`). */
export function servePackage(places, options) {
  return serve({ "/dist/": dist, "/": join(root, "scripts/page"), ...places }, options);
}

/** Opens that page in a browser's tab (playwright's or puppeteer's), with the package as `globalThis.embergram`. */
export async function enterPackage(page, url) {
  await page.goto(url);
  await page.addScriptTag({ type: "module", content: 'import * as embergram from "/dist/index.js"; globalThis.embergram = embergram;' });
  await page.waitForFunction("globalThis.embergram");
}

/**
 * The built package in a page of a real Chromium, as `globalThis.embergram`, with `places` (see `serve`) beside it.
 * `newPage` opens a further tab. `isolated`: whether threads may share memory. Further options: see `launch`.
 */
export async function openPackage({ places = {}, isolated = true, fresh = false, ...options } = {}) {
  const server = await servePackage(places, isolated ? { headers: ISOLATED } : {});
  const context = await launch({ fresh, ...options });
  const newPage = async () => {
    const page = await context.newPage();
    page.on("pageerror", (error) => console.error(printable(String(error.stack))));
    page.on("console", (message) => message.type() === "error" && console.error(printable(message.text())));
    await enterPackage(page, server.url);
    return page;
  };
  const close = async () => {
    // A page that a test closed or broke has nothing to hand on.
    const found = fresh ? [] : await context.pages().at(-1)?.evaluate(getFacts).catch(() => []);
    if (found?.length) writeFacts(new Map([...facts(), ...found]));
    await context.close();
    await server.close();
  };
  return { server, context, page: await newPage(), newPage, close };
}
