// All tests: `npm test`. Sets up what is missing, then runs the native Rust tests (on lavapipe where there is no GPU), the
// engine's tests as WebAssembly in Chromium, and the package and the page end to end in Chromium; holds what a GPU's compiler
// makes of the kernels to scripts/isa/bounds.json, and the crates to deny.toml.
//   npm test -- [--full] [native|isa|crates|wasm|web ...]     --full: every case, which takes hours on two cores
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { TARGET, wasmOptions } from "./crates.mjs";
import { cache, cargoDeny, chromium, chromedriver, convertedModels, firefox, model, modelInParts, packages, python, root, run, tinyModel, vulkan, wasmTarget, wasmTools } from "./setup.mjs";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { full: { type: "boolean", default: false } } });
const wanted = (part) => positionals.length === 0 || positionals.includes(part);

packages();
const env = {
  ...python(), EMBERGRAM_MODEL: await model(), EMBERGRAM_TINY_MODEL: tinyModel(), EMBERGRAM_CONVERTED: convertedModels(),
  EMBERGRAM_QWEN2: await modelInParts("qwen2"), EMBERGRAM_GEMMA3: await modelInParts("gemma3"), EMBERGRAM_CHROMIUM: chromium(),
};
if (values.full) env.EMBERGRAM_FULL = "1";

/** A part of the tests, with the time it took. */
async function part(name, body) {
  if (!wanted(name)) return;
  const begin = Date.now();
  console.error(`[test] ${name}`);
  await body();
  console.error(`[test] ${name}: passed in ${Math.round((Date.now() - begin) / 1e3)} s`);
}

/**
 * Compiles for the browser and runs the wasm tests while native tests are compiled and run: linking and a CPU adapter's
 * compiling of kernels keep one core busy for minutes. Returns what waits for it and shows what it had to say.
 */
function wasmAside() {
  const log = join(cache, "wasm-tests.log");
  const file = openSync(log, "w");
  const own = [fileURLToPath(import.meta.url), ...(values.full ? ["--full"] : []), "wasm"];
  const child = spawn(process.execPath, own, { cwd: root, env, stdio: ["ignore", file, file] });
  closeSync(file);
  const code = new Promise((resolve) => child.on("close", resolve));
  return async () => {
    const passed = (await code) === 0;
    console.error(readFileSync(log, "utf8"));
    if (!passed) throw new Error("the wasm tests failed; what they said is above");
  };
}

const all = positionals.length === 0;
if (wanted("native")) vulkan();
// Both installed here: two of apt at once would be in each other's way.
if (wanted("wasm")) env.CHROMEDRIVER = chromedriver();
if (wanted("web")) env.EMBERGRAM_FIREFOX = firefox();
const wasm = all ? wasmAside() : undefined;

await part("native", () => {
  // One test binary after another: each opens the adapter, and two cores are all a small machine has.
  run("cargo", ["test", "--locked", "-p", "embergram", "-p", "embergram-grammar", "--features", "embergram/reference"], { env, stdio: "inherit" });
});
await part("isa", async () => (await import("./isa.mjs")).check());
await part("crates", async () => run(await cargoDeny(), ["--locked", "check", "licenses", "bans", "sources"], { stdio: "inherit" }));
if (all) await wasm();
else await part("wasm", async () => {
  wasmTarget();
  const { ensureBuilt } = await import("./build.mjs");
  const [tools] = await Promise.all([wasmTools(), ensureBuilt()]);
  // As a list, which may have a space in its path.
  const runner = `target.${TARGET}.runner=[${JSON.stringify(`${tools}wasm-bindgen-test-runner`)}]`;
  const patient = {
    ...env,
    // Seconds: for all tests together, and for ChromeDriver to start, on a machine with much else to do.
    WASM_BINDGEN_TEST_TIMEOUT: "1800", WASM_BINDGEN_TEST_DRIVER_TIMEOUT: "60",
  };
  const options = [...wasmOptions(), "--config", runner, "--release"];
  run("cargo", ["test", "--locked", ...options, "-p", "embergram", "--test", "browser"], { env: patient, stdio: "inherit", cwd: root });
});
await part("web", async () => {
  const { ensureBuilt } = await import("./build.mjs");
  await ensureBuilt();
  run(process.execPath, ["node_modules/vitest/vitest.mjs", "run"], { env, stdio: "inherit" });
});
