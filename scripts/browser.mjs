// A headless Chromium with WebGPU, and the package in a page of it.
import { chromium as playwright } from "playwright-core";
import { chromium as executable } from "./setup.mjs";

const FLAGS = [
  "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
  // Machines without a GPU compute on SwiftShader, which Chromium offers only when asked.
  "--enable-unsafe-webgpu",
];

/** Launches it with a fresh profile, which goes when it closes; returns playwright's context. */
export async function launch({ args = [], profile = "", ...options } = {}) {
  return playwright.launchPersistentContext(profile, {
    executablePath: executable(), headless: false, args: [...FLAGS, ...args], ...options,
  });
}
