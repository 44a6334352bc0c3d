// THIRD_PARTY.md: whose code the package ships, and under which terms. Made with the package from what is really in it.
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { TARGET, metadata, printed } from "./crates.mjs";
import { root } from "./setup.mjs";

const read = (...path) => readFileSync(join(...path), "utf8").replaceAll("\r\n", "\n").trim();

/** The crates that are linked into the modules, with their `cargo metadata`. */
function crates() {
  const known = new Map(metadata().packages.map((crate) => [`${crate.name} v${crate.version}`, crate]));
  // Metadata does not tell apart which features the module is built with, nor what runs in the compiler only.
  const edges = ["-e", "no-build,no-dev,no-proc-macro", "--prefix", "none", "--format", "{p}"];
  const linked = ["embergram-web", "embergram-grammar-wasm"];
  const lines = linked.flatMap((crate) => printed("cargo", ["tree", "--locked", "-p", crate, "--target", TARGET, ...edges]).split("\n"));
  const names = new Set(lines.flatMap((line) => /^\S+ v\S+/.exec(line) ?? []));
  return [...names].sort().map((name) => known.get(name)).filter(({ source }) => source !== null);
}

/** Texts that name no holder, for crates that come without theirs. */
const STANDARD = {
  "Apache-2.0": () => read(root, "LICENSE-APACHE"),
  "MPL-2.0": (all) => ownTexts(all.find(({ name }) => name === "colored"))[0],
};

/** Licence texts in a crate's folder. Of two to choose from MIT is taken, the shorter one. */
function ownTexts({ license, manifest_path }) {
  const folder = dirname(manifest_path);
  const files = readdirSync(folder).filter((name) => /^(licen[cs]e|copying|copyright|notice|unlicense)/i.test(name)).sort();
  const choice = / OR |\//.test(license) && !/ AND /.test(license) && files.some((name) => /mit/i.test(name));
  const chosen = choice ? files.filter((name) => /mit|copyright|notice|third/i.test(name)) : files;
  // Some are links that packing made into the path they lead to.
  return chosen.map((name) => read(folder, name)).filter((text) => /\s/.test(text));
}

function crateNotice(crate, all) {
  const { name, version, license, repository } = crate;
  const texts = ownTexts(crate);
  if (texts.length === 0) {
    const standard = Object.keys(STANDARD).find((id) => license.split(/ OR |\//).includes(id));
    if (!standard) throw new Error(`the crate ${name} brings no licence text; add one for ${license} to scripts/notices.mjs`);
    texts.push(STANDARD[standard](all));
  }
  return { name: `${name} ${version}`, license, from: repository, texts };
}

/** Of an npm package that esbuild has bundled. */
function packageNotice(name) {
  const folder = join(root, "node_modules", name);
  const { version, license, repository } = JSON.parse(read(folder, "package.json"));
  const files = readdirSync(folder).filter((file) => /^licen[cs]e/i.test(file));
  if (files.length === 0) throw new Error(`the package ${name} has no licence text`);
  const from = (repository?.url ?? repository)?.replace(/^git\+/, "").replace(/\.git$/, "");
  return { name: `${name} ${version} (npm)`, license, from, texts: files.map((file) => read(folder, file)) };
}

/** The standard library is linked too, and no package. */
function rustNotice() {
  const [, version] = printed("rustc", ["--version"]).split(" ");
  const mit = read(root, "LICENSE-MIT").replace(/^Copyright.*$/m, "Copyright (c) The Rust Project Contributors");
  return { name: `Rust's standard library ${version}`, license: "MIT OR Apache-2.0", from: "https://github.com/rust-lang/rust", texts: [mit] };
}

/**
 * The text of THIRD_PARTY.md.
 * @param metafiles of esbuild, which name every file that went into the scripts
 */
export function thirdParty(metafiles) {
  const inputs = metafiles.flatMap(({ inputs }) => Object.keys(inputs));
  const packageOf = (path) => /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? [];
  const bundled = [...new Set(inputs.flatMap(packageOf))].sort();
  const all = crates();
  const notices = [rustNotice(), ...bundled.map(packageNotice), ...all.map((crate) => crateNotice(crate, all))];
  const users = new Map();
  for (const { name, texts } of notices) for (const text of texts) users.set(text, [...(users.get(text) ?? []), name]);
  const fence = "````";
  return [
    "# Third-party software in this package", "",
    "The WebAssembly module and the scripts of this package contain the following software. Where terms are joined by OR,",
    "it is taken under those whose text is given below.", "",
    "| what | terms | source |", "|---|---|---|",
    ...notices.map(({ name, license, from }) => `| ${name} | ${license} | ${from ?? ""} |`), "",
    ...[...users].flatMap(([text, names]) => [`## ${names.join(", ")}`, "", fence, text, fence, ""]),
  ].join("\n");
}
