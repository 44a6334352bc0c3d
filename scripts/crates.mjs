// What cargo knows of the crates, and how those of the WebAssembly module are compiled.
import { spawnSync } from "node:child_process";
import { homedir } from "node:os";
import { dirname } from "node:path";
import { root } from "./setup.mjs";

export const TARGET = "wasm32-unknown-unknown";

/** What a command of Rust's prints. */
export function printed(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`'${command} ${args.join(" ")}' failed: ${stderr}`);
  return stdout;
}

/** The crates that the target can need, as `cargo metadata` knows them. They are downloaded where they are not there. */
export function metadata() {
  return JSON.parse(printed("cargo", ["metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]));
}

/** The folders of this machine that crates are compiled in or from, and what a module calls them; the last that fits. */
export function places() {
  const { packages, target_directory: target } = metadata();
  const fetched = packages.filter(({ source }) => source !== null);
  const sources = new Set(fetched.map(({ manifest_path }) => dirname(dirname(manifest_path))));
  const sysroot = printed("rustc", ["--print", "sysroot"]).trim();
  const own = [[homedir(), "~"], [sysroot, "rust"], [root.replace(/\/$/, ""), "."], [target, "target"]];
  return [...own, ...[...sources].map((folder) => [folder, "crates"])].filter(([folder]) => folder !== "/");
}

/**
 * The options of cargo with which everything for the module is compiled, tests too: other flags would compile all crates
 * again. Panics name source files; the folders of the machine that built the module are nobody's business, and bytes.
 */
export function wasmOptions() {
  const flags = places().map(([from, to]) => `--remap-path-prefix=${from}=${to}`);
  return ["--target", TARGET, "--config", `target.${TARGET}.rustflags=${JSON.stringify(flags)}`];
}
