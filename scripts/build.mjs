// The package: the engine as WebAssembly, its JavaScript glue, and the TypeScript bundled to `dist/`.
//   node scripts/build.mjs [--dev] [--twiggy] [--if-needed]
//     --dev: an engine that compiles faster and runs slower; --twiggy: list which crates take the module's space;
//     --if-needed: nothing, where the package is built and newer than its sources
import { spawnSync } from "node:child_process";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TARGET, wasmOptions } from "./crates.mjs";
import { grammar } from "./grammar.mjs";
import { MODULES, kernels } from "./kernels.mjs";
import { thirdParty } from "./notices.mjs";
import { bindgen, cache, packages, root, run, runAside, timed, twiggy, wasmTarget } from "./setup.mjs";

export const dist = join(root, "dist");
const notices = join(root, "THIRD_PARTY.md");
const glue = join(root, "www/embergram/engine");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
/** What the TypeScript finds put in. */
export const define = { EMBERGRAM_VERSION: JSON.stringify(version) };

/** The WebAssembly modules: the engine's, the CPU's kernels, and the grammars'. */
const modules = ["engine_bg", ...Object.keys(MODULES), "grammar"];

/** Compiles the modules for wasm32 and makes the engine's glue in `www/embergram/engine/`. */
async function engine(profile) {
  wasmTarget();
  const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
  const options = ["build", "--locked", ...wasmOptions(), "-p", "embergram-web", "--profile", profile];
  // Its linking is one core's work: all else, which gives way to it, is compiled beside it.
  const others = async () => {
    const tool = await timed("compiling wasm-bindgen", bindgen);
    await timed("compiling the CPU's kernels", kernels);
    await timed("compiling the grammars", grammar);
    return tool;
  };
  const [tool] = await Promise.all([others(), timed("compiling the engine", () => runAside("cargo", options))]);
  const wasm = join(target, TARGET, profile === "dev" ? "debug" : profile, "embergram_web.wasm");
  // Names of functions would be a fifth of the download.
  run(tool, [wasm, glue, ...(profile === "dev" ? [] : ["--strip"])]);
  return wasm;
}

/**
 * The TypeScript as `dist/*.js`: the package, the host for `worker: false`, the worker, package and host, all in one file, and
 * package, host and command line for Node.
 * Returns esbuild's metafiles.
 */
export async function scripts() {
  const { build } = await import("esbuild");
  const options = { outdir: dist, bundle: true, format: "esm", target: "es2022", minify: true, metafile: true, define };
  const entry = (name) => join(root, `www/embergram/${name}.ts`);
  // The facade loads the host only where it runs in the caller's context.
  const hostApart = {
    name: "host-apart",
    setup: (b) => b.onResolve({ filter: /^\.\/host\.js$/ }, ({ path, kind }) => (kind === "dynamic-import" ? { path, external: true } : undefined)),
  };
  const files = await build({ ...options, entryPoints: ["index", "host"].map(entry), plugins: [hostApart] });
  // A module in another's place.
  const instead = (name, other) => ({
    name: `${other}-instead`,
    setup: (b) => b.onResolve({ filter: new RegExp(`^\\./${name}\\.js$`) }, () => ({ path: entry(other) })),
  });
  // Under Node some modules have another in their place; the command line and the facade load the other scripts as they need them.
  const forNode = {
    name: "for-node",
    setup: (b) => {
      b.onResolve({ filter: /\/(connect|own|platform|place)\.js$/ }, ({ path }) => ({ path: entry(`node/${/(\w+)\.js$/.exec(path)[1]}`) }));
      b.onResolve({ filter: /^\.\/host\.js$/ }, ({ kind }) => (kind === "dynamic-import" ? { path: "./node-host.js", external: true } : undefined));
      b.onResolve({ filter: /^\.\.\/index\.js$/ }, ({ importer }) => (/node.cli./.test(importer) ? { path: "./node.js", external: true } : undefined));
    },
  };
  const worker = await build({ ...options, entryPoints: [entry("worker")], plugins: [instead("own", "own-worker")] });
  const here = await build({ ...options, entryPoints: [entry("here")], plugins: [instead("connect", "connect-here")] });
  // Node shows the line of an error that nobody caught: it should be one.
  const node = await build({
    ...options, minify: false, platform: "node", mainFields: ["module", "main"], plugins: [forNode],
    entryPoints: Object.entries({ node: "index", "node-host": "host", cli: "cli/main" }).map(([out, name]) => ({ in: entry(`node/${name}`), out })),
  });
  const parts = {
    worker: () => readFileSync(join(dist, "worker.js"), "utf8"),
  };
  for (const name of modules) {
    // Base64 alone would take a third more on the wire than the module does.
    parts[name] = () => gzipSync(readFileSync(join(glue, `${name}.wasm`)), { level: 9 }).toString("base64");
  }
  const embedded = {
    name: "embedded",
    setup: (b) => {
      b.onResolve({ filter: /^embedded:/ }, ({ path }) => ({ path: path.slice("embedded:".length), namespace: "embedded" }));
      b.onLoad({ filter: /.*/, namespace: "embedded" }, ({ path }) => ({ contents: parts[path](), loader: "text" }));
    },
  };
  const inline = await build({ ...options, entryPoints: [entry("inline")], plugins: [hostApart, instead("own", "own-inline"), embedded] });
  return [files, worker, here, node, inline].map(({ metafile }) => metafile);
}

export async function bundle() {
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist, { recursive: true });
  const metafiles = await scripts();
  writeFileSync(notices, thirdParty(metafiles));
  for (const name of modules) copyFileSync(join(glue, `${name}.wasm`), join(dist, `${name}.wasm`));
  const tsc = [join(root, "node_modules/typescript/bin/tsc"), "-p", join(root, "www/embergram/tsconfig.json")];
  run(process.execPath, [tsc[0], "-p", join(root, "www/embergram/node/tsconfig.json")]);
  run(process.execPath, [...tsc, "--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", dist]);
  mkdirSync(join(dist, "engine"));
  copyFileSync(join(glue, "engine.d.ts"), join(dist, "engine/engine.d.ts"));
  dropTypes(["index.d.ts", "inline.d.ts", "here.d.ts"]);
}

/** Removes the declarations that none of these lead to. */
function dropTypes(entries) {
  const wanted = new Set();
  const follow = (path) => {
    if (wanted.has(path)) return;
    wanted.add(path);
    for (const [, to] of readFileSync(path, "utf8").matchAll(/(?:from |import\()"(\.[^"]+)\.js"/g)) follow(join(path, "..", `${to}.d.ts`));
  };
  for (const entry of entries) follow(join(dist, entry));
  for (const name of readdirSync(dist, { recursive: true })) {
    if (name.endsWith(".d.ts") && !wanted.has(join(dist, name))) rmSync(join(dist, name));
  }
  for (const entry of readdirSync(dist, { withFileTypes: true })) {
    if (entry.isDirectory() && readdirSync(join(dist, entry.name)).length === 0) rmSync(join(dist, entry.name), { recursive: true });
  }
}

/** What a page downloads, in bytes after brotli. */
export function sizes() {
  return Object.fromEntries(
    readdirSync(dist)
      .filter((name) => /\.(js|wasm)$/.test(name))
      .map((name) => [name, brotliCompressSync(readFileSync(join(dist, name))).length]),
  );
}

// Which build `dist/` holds; there while it is whole.
const profile = join(cache, "dist-profile");

/** Whether `dist/` is whole, newer than every source, and optimised where that is wanted. */
function isBuilt(dev) {
  const built = existsSync(profile) && readFileSync(profile, "utf8");
  if (!(built === "release" || (dev && built === "dev")) || !existsSync(notices)) return false;
  const made = statSync(join(dist, "engine_bg.wasm"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const paths = [
    "crate/Cargo.toml", "crate/src", "crate/web", "crate/kernels", "scripts/kernels.mjs", "crate/grammar", "scripts/grammar.mjs", "shaders", "www/embergram", "Cargo.toml", "Cargo.lock", "package.json", "package-lock.json",
  ];
  const sources = paths.map((path) => join(root, path));
  const newest = (path) => {
    const stat = statSync(path);
    if (!stat.isDirectory() || path === glue) return stat.isDirectory() ? 0 : stat.mtimeMs;
    return Math.max(...readdirSync(path).map((name) => newest(join(path, name))));
  };
  return sources.every((path) => newest(path) < made);
}

/** Builds the package; returns the module as the compiler left it, with the names of functions. */
export async function build({ dev = false } = {}) {
  const built = dev ? "dev" : "release";
  rmSync(profile, { force: true });
  const wasm = await engine(built);
  await bundle();
  writeFileSync(profile, built);
  return wasm;
}

/** Bytes of a module by the crate whose functions they are, before compression; the largest first. */
async function crates(wasm) {
  const { stdout, status } = spawnSync(await twiggy(), ["top", "--format", "json", "-n", "100000", wasm], { encoding: "utf8", maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error("twiggy failed");
  const bytes = {};
  for (const { name, shallow_size } of JSON.parse(stdout)) {
    // What wasm-bindgen reads and takes out.
    if (/section/.test(name)) continue;
    const crate = /^data/.test(name) ? "(data)" : (/^[<&*\[(]*(?:mut |const |dyn |impl )*(\w+)::/.exec(name)?.[1] ?? "(others)");
    bytes[crate] = (bytes[crate] ?? 0) + shallow_size;
  }
  return Object.fromEntries(Object.entries(bytes).sort(([, a], [, b]) => b - a).slice(0, 20));
}

/** {@link build}, where `dist/` is not what that would give. */
export async function ensureBuilt(options) {
  if (!isBuilt(options?.dev)) await build(options);
}

const main = process.argv[1] === fileURLToPath(import.meta.url);
if (main && process.argv.includes("--if-needed")) {
  packages();
  await ensureBuilt();
} else if (main) {
  const wasm = await build({ dev: process.argv.includes("--dev") });
  console.table(sizes());
  if (process.argv.includes("--twiggy")) console.table(await crates(wasm));
}
