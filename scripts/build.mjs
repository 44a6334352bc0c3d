// The package: the engine as WebAssembly, its JavaScript glue, and the TypeScript bundled to `dist/`.
//   node scripts/build.mjs [--dev]      --dev: an engine that compiles faster and runs slower
import { brotliCompressSync } from "node:zlib";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { root, run, wasmTools } from "./setup.mjs";

export const dist = join(root, "dist");
const glue = join(root, "www/embergram/engine");

/** Compiles the engine for wasm32 and makes its glue in `www/embergram/engine/`. */
function engine(profile) {
  const bin = wasmTools();
  const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
  run("cargo", ["build", "--target", "wasm32-unknown-unknown", "-p", "embergram-web", "--profile", profile]);
  const wasm = join(target, "wasm32-unknown-unknown", profile === "dev" ? "debug" : profile, "embergram_web.wasm");
  run(join(bin, "wasm-bindgen"), [wasm, "--target", "web", "--out-dir", glue, "--out-name", "engine"]);
}

async function bundle() {
  const { build } = await import("esbuild");
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist, { recursive: true });
  await build({
    entryPoints: ["index", "host", "worker"].map((name) => join(root, `www/embergram/${name}.ts`)),
    outdir: dist,
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    sourcemap: true,
    // The facade loads the host only where it runs in the caller's context.
    plugins: [{ name: "host-apart", setup: (b) => b.onResolve({ filter: /^\.\/host\.js$/ }, ({ path, kind }) => (kind === "dynamic-import" ? { path, external: true } : undefined)) }],
  });
  copyFileSync(join(glue, "engine_bg.wasm"), join(dist, "engine_bg.wasm"));
  // The types: those of the TypeScript, and beside them those of the glue they name.
  const tsc = [join(root, "node_modules/typescript/bin/tsc"), "-p", join(root, "www/embergram/tsconfig.json")];
  run(process.execPath, [...tsc, "--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", dist]);
  mkdirSync(join(dist, "engine"));
  copyFileSync(join(glue, "engine.d.ts"), join(dist, "engine/engine.d.ts"));
}

/** What a page downloads, in bytes after brotli. */
export function sizes() {
  return Object.fromEntries(
    readdirSync(dist)
      .filter((name) => /\.(js|wasm)$/.test(name))
      .map((name) => [name, brotliCompressSync(readFileSync(join(dist, name))).length]),
  );
}

/** Whether `dist/` is newer than every source. */
export function isBuilt() {
  const made = statSync(join(dist, "engine_bg.wasm"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = ["crate", "shaders", "www/embergram", "Cargo.lock", "package-lock.json"].map((path) => join(root, path));
  const newest = (path) => {
    const stat = statSync(path);
    if (!stat.isDirectory() || path === glue) return stat.isDirectory() ? 0 : stat.mtimeMs;
    return Math.max(...readdirSync(path).map((name) => newest(join(path, name))));
  };
  return sources.every((path) => newest(path) < made);
}

export async function build({ dev = false } = {}) {
  engine(dev ? "dev" : "release");
  await bundle();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await build({ dev: process.argv.includes("--dev") });
  console.table(sizes());
}
