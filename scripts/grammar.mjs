// The grammars as a WebAssembly module in `www/embergram/engine/`, which a package fetches when a request first has one.
//   node scripts/grammar.mjs
import { copyFileSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync } from "node:zlib";
import { TARGET, wasmOptions } from "./crates.mjs";
import { root, runAside } from "./setup.mjs";

const folder = join(root, "www/embergram/engine");

/** Compiles it; returns its path. */
export async function grammar() {
  mkdirSync(folder, { recursive: true });
  // A folder of its own, since it is compiled beside the engine.
  const target = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "grammar");
  const options = [...wasmOptions(), "--profile", "grammar", "--target-dir", target];
  await runAside("cargo", ["build", "--locked", ...options, "-p", "embergram-grammar-wasm"], { patient: true });
  const path = join(folder, "grammar.wasm");
  copyFileSync(join(target, TARGET, "grammar", "embergram_grammar_wasm.wasm"), path);
  return path;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const path = await grammar();
  console.table({ grammar: { bytes: statSync(path).size, brotli: brotliCompressSync(readFileSync(path)).length } });
}
