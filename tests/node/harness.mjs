// The built package as Node imports it, and its command line.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { dist } from "../../scripts/build.mjs";
import { root } from "../../scripts/setup.mjs";

export const { EMBERGRAM_MODEL: MODEL, EMBERGRAM_TINY_MODEL: TINY } = process.env;
export const { EmbergramError, Llm, counterValue, modelCache, speculationStats } = await import(pathToFileURL(join(dist, "node.js")).href);

export const golden = (path) => JSON.parse(readFileSync(join(root, "tests/golden", path), "utf8"));

/** What an error says; undefined where there is none. */
export const refusal = (promise) => promise.then(() => undefined, ({ name, code, message }) => ({ name, code, message }));

/** Starts a node with the command line, or with other arguments. */
export function start(args, { env = {}, input } = {}) {
  const child = spawn(process.execPath, args, { cwd: root, env: { ...process.env, ...env } });
  child.stdin.end(input);
  return child;
}

/** Runs one to its end; what it said. */
export async function run(args, options) {
  const child = start(args, options);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  const code = await new Promise((done) => child.once("close", done));
  return { code, stdout, stderr };
}

export const CLI = join(dist, "cli.js");
export const embergram = (args, options) => run([CLI, ...args], options);
/** Runs a module's text, where `embergram` is the package. */
export const script = (text, options) => run(["--input-type=module", "-e", text], options);
