// The CPU kernels as WebAssembly modules in `www/embergram/engine/`, one for every engine with SIMD and one for those with
// relaxed SIMD too.
//   node scripts/kernels.mjs
import { copyFileSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync } from "node:zlib";
import { TARGET, places } from "./crates.mjs";
import { root, runAside } from "./setup.mjs";

const folder = join(root, "www/embergram/engine");

/** The modules' names, and the features that each is compiled with. */
export const MODULES = { kernels: [], kernels_relaxed: ["relaxed-simd"] };

// The memory is shared, so code that runs in it must be compiled with atomics. rustc calls that unstable: the standard library
// was not. There is none in here, and `core` has no atomics that are not compiled where they are used.
const FEATURES = ["simd128", "atomics", "bulk-memory", "mutable-globals"];

// 4 GiB at most; how much there is, and whether it is shared, the importing side decides. The first 64 KiB are the stack of
// whoever has no other.
const LINK = [
  "--import-memory", "--shared-memory", "--max-memory=4294967296", "--no-check-features", "--export=__stack_pointer",
  "--export=__heap_base", "-zstack-size=65536",
];

/** Compiles both; returns their paths by name. */
export async function kernels() {
  mkdirSync(folder, { recursive: true });
  const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
  const prefixes = places().map(([from, to]) => `--remap-path-prefix=${from}=${to}`);
  const compiled = [];
  for (const [name, more] of Object.entries(MODULES)) {
    const features = [...FEATURES, ...more].map((feature) => `+${feature}`).join(",");
    const flags = [...prefixes, `-Ctarget-feature=${features}`, ...LINK.map((option) => `-Clink-arg=${option}`)];
    // Beside the others: other flags in the same folder would compile everything again.
    const own = join(target, name);
    await runAside("cargo", [
      "build", "--locked", "--target", TARGET, "--profile", "kernels", "-p", "embergram-kernels-wasm", "--target-dir", own,
      "--config", `target.${TARGET}.rustflags=${JSON.stringify(flags)}`,
    ], { patient: true });
    const path = join(folder, `${name}.wasm`);
    copyFileSync(join(own, TARGET, "kernels", "embergram_kernels_wasm.wasm"), path);
    compiled.push([name, path]);
  }
  return Object.fromEntries(compiled);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const sizes = Object.entries(await kernels()).map(([name, path]) => {
    return [name, { bytes: statSync(path).size, brotli: brotliCompressSync(readFileSync(path)).length }];
  });
  console.table(Object.fromEntries(sizes));
}
