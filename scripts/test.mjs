// All tests: `npm test`. Sets up what is missing, then runs the native Rust tests (on lavapipe where there is no GPU), the
// engine's tests as WebAssembly in Chromium, and the package and the page end to end in Chromium.
//   npm test -- [--full] [native|wasm|web ...]     --full: every case, which takes hours on two cores
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cache, chromium, chromedriver, model, packages, python, root, run, tinyModel, vulkan, wasmTools } from "./setup.mjs";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { full: { type: "boolean", default: false } } });
const wanted = (part) => positionals.length === 0 || positionals.includes(part);

packages();
const env = { ...python(), EMBERGRAM_MODEL: await model(), EMBERGRAM_TINY_MODEL: tinyModel(), EMBERGRAM_CHROMIUM: chromium() };
if (values.full) env.EMBERGRAM_FULL = "1";

/** A part of the tests, with the time it took. */
async function part(name, body) {
  if (!wanted(name)) return;
  const begin = Date.now();
  console.error(`[test] ${name}`);
  await body();
  console.error(`[test] ${name}: passed in ${Math.round((Date.now() - begin) / 1e3)} s`);
}

const browserTests = ["test", "--locked", "--release", "--target", "wasm32-unknown-unknown", "-p", "embergram", "--test", "browser"];

/**
 * Compiles for the browser while native tests are compiled and run: linking keeps one core busy for minutes, twice.
 * Returns what waits for it.
 */
function compileForBrowser() {
  const log = join(cache, "browser-build.log");
  const commands = [
    [process.execPath, "--input-type=module", "-e", "await (await import('./scripts/build.mjs')).ensureBuilt()"],
    ["cargo", ...browserTests, "--no-run"],
  ];
  const quoted = commands.map((words) => words.map((word) => `"${word}"`).join(" ")).join(" && ");
  const file = openSync(log, "w");
  const child = spawn("sh", ["-c", quoted], { cwd: root, env, stdio: ["ignore", file, file] });
  closeSync(file);
  const code = new Promise((resolve) => child.on("close", resolve));
  return async () => {
    if ((await code) !== 0) throw new Error(`compiling for the browser failed:\n${readFileSync(log, "utf8")}`);
  };
}

const compiled = positionals.length === 0 ? compileForBrowser() : () => {};

await part("native", () => {
  vulkan();
  // One test binary after another: each opens the adapter, and two cores are all a small machine has.
  run("cargo", ["test", "--locked", "-p", "embergram", "--features", "reference"], { env, stdio: "inherit" });
});
await part("wasm", async () => {
  await compiled();
  const bin = wasmTools();
  const runner = {
    ...env, CHROMEDRIVER: chromedriver(), CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: `${bin}wasm-bindgen-test-runner`,
    // Seconds: for all tests together, and for ChromeDriver to start, on a machine with much else to do.
    WASM_BINDGEN_TEST_TIMEOUT: "1800", WASM_BINDGEN_TEST_DRIVER_TIMEOUT: "60",
  };
  run("cargo", browserTests, { env: runner, stdio: "inherit", cwd: root });
});
await part("web", async () => {
  const { ensureBuilt } = await import("./build.mjs");
  await ensureBuilt();
  run(process.execPath, ["node_modules/vitest/vitest.mjs", "run"], { env, stdio: "inherit" });
});
