// The packed tarball in fresh projects, as people's bundlers get it: each builds without configuration, and the result
// generates text in a real Chromium over a tiny model.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch } from "../../scripts/browser.mjs";
import { places } from "../../scripts/crates.mjs";
import { root } from "../../scripts/setup.mjs";
import { serve } from "../support/server.mjs";

const VERSIONS = { vite: "8.3.8", webpack: "5.112.2", "webpack-cli": "7.3.1", esbuild: "0.28.2", typescript: "5.9.3" };
const folder = mkdtempSync(join(tmpdir(), "embergram-pack-"));
const tiny = readFileSync(process.env.EMBERGRAM_TINY_MODEL);
let packed;
let context;
beforeAll(async () => {
  // `prepack` finds the package built: its words would come before the JSON.
  const json = execFileSync("npm", ["pack", "--json", "--foreground-scripts=false", "--pack-destination", folder], { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  packed = JSON.parse(json)[0];
  context = await launch();
}, 120_000);
afterAll(async () => {
  await context?.close();
  rmSync(folder, { recursive: true, force: true });
});

const program = (entry) => `
import { Llm } from "${entry}";
async function main() {
  const llm = await Llm.load({ model: "/tiny.gguf", max_model_len: 64 });
  const [{ outputs }] = await llm.generate("the", { max_tokens: 6, temperature: 0, ignore_eos: true });
  await llm.unload();
  return { tokens: outputs[0].token_ids.length, text: outputs[0].text };
}
main().catch(({ code, message }) => ({ code, message })).then((result) => console.log("result " + JSON.stringify(result)));
`;

/** A fresh project with the tarball and these tools from the registry, or npm's cache. */
function project(name, tools, files) {
  const path = join(folder, name);
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(join(path, file, ".."), { recursive: true });
    writeFileSync(join(path, file), text);
  }
  const dependencies = { embergram: `file:../${packed.filename}`, ...Object.fromEntries(tools.map((tool) => [tool, VERSIONS[tool]])) };
  writeFileSync(join(path, "package.json"), JSON.stringify({ name, private: true, type: "module", dependencies }));
  const install = ["install", "--prefer-offline", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"];
  execFileSync("npm", install, { cwd: path, stdio: "inherit" });
  return { path, run: (tool, ...args) => execFileSync(join(path, "node_modules/.bin", tool), args, { cwd: path, encoding: "utf8" }) };
}

/** What the program prints when a page is opened. */
async function printed(url) {
  const page = await context.newPage();
  const result = new Promise((resolve, reject) => {
    page.on("console", (message) => message.text().startsWith("result ") && resolve(JSON.parse(message.text().slice(7))));
    page.on("pageerror", reject);
  });
  try {
    await page.route("**/tiny.gguf", (route) => route.fulfill({ body: tiny }));
    await page.goto(url);
    return await result;
  } finally {
    await page.close();
  }
}

/** The same from a folder that any server could serve. */
async function printedFrom(path) {
  const server = await serve({ root: path });
  try {
    return await printed(server.origin);
  } finally {
    await server.close();
  }
}

const text = { tokens: 6, text: expect.stringMatching(/\S/) };
const html = (script) => `<!doctype html><title>project</title><script type="module" src="${script}"></script>`;

test("the tarball holds what is needed and nothing else", () => {
  const names = packed.files.map((f) => f.path).sort();
  expect(names.filter((name) => !/^dist\/.*\.d\.ts$/.test(name))).toEqual([
    "LICENSE-APACHE", "LICENSE-MIT", "README.md", "THIRD_PARTY.md", "dist/cli.js", "dist/engine_bg.wasm", "dist/grammar.wasm", "dist/here.js",
    "dist/host.js", "dist/index.js", "dist/inline.js", "dist/kernels.wasm", "dist/kernels_relaxed.wasm", "dist/node-host.js",
    "dist/node.js", "dist/worker.js", "package.json",
  ]);
  // Every declaration is one that the entries lead to: the API's, and what it names.
  expect(names.filter((name) => /^dist\/.*\.d\.ts$/.test(name)).length).toBeLessThan(36);
  for (const name of names.filter((name) => name.endsWith(".js"))) {
    expect(readFileSync(join(root, name), "utf8")).not.toMatch(/sourceMappingURL|\beval\(|new Function\(/);
  }
});

test("the tarball names the software in it, with the terms", () => {
  const notices = readFileSync(join(root, "THIRD_PARTY.md"), "utf8");
  const named = new Map([...notices.matchAll(/^\| (\S+ \d[^|]*) \| ([^|]+) \|/gm)].map(([, what, terms]) => [what, terms]));
  const npm = [...named.keys()].filter((what) => what.endsWith(" (npm)"));
  expect(npm.map((what) => what.split(" ")[0])).toEqual(["comlink", "eventsource-parser", "hash-wasm", "wasm-feature-detect"]);
  expect([...named].find(([what]) => what.startsWith("buildid "))[1]).toBe("MPL-2.0");
  // Panics name the files of the crates that they come from, by name and version.
  const module = readFileSync(join(root, "dist/engine_bg.wasm"), "latin1");
  const linked = [...module.matchAll(/crates\/([a-z0-9_-]+)-(\d+\.\d+\.\d+)\/src\//g)].map(([, name, version]) => `${name} ${version}`);
  expect(new Set(linked).size).toBeGreaterThan(30);
  expect(linked.filter((crate) => !named.has(crate))).toEqual([]);
  // Each has a text, and each text is one.
  const texts = [...notices.matchAll(/^## (.+)\n\n````\n([^]*?)\n````$/gm)];
  const covered = new Set(texts.flatMap(([, names]) => names.split(", ")));
  expect([...named.keys()].filter((what) => !covered.has(what))).toEqual([]);
  for (const [, names, text] of texts) expect(text, names).toMatch(/licen[cs]e|permission is hereby granted|copyright/i);
  for (const words of ["Mozilla Public License Version 2.0", "Apache License", "Permission is hereby granted"]) expect(notices).toContain(words);
});

test("nothing tells where the package was built", () => {
  const folders = places().map(([folder]) => `${folder}/`);
  expect(folders.length).toBeGreaterThan(3);
  for (const { path } of packed.files) {
    const text = readFileSync(join(root, path), "latin1");
    expect(folders.filter((folder) => text.includes(folder)), path).toEqual([]);
  }
});

test("publint and attw find nothing to say of the tarball", () => {
  const tarball = join(folder, packed.filename);
  const tool = (name, ...args) => {
    const { status, stdout, stderr } = spawnSync(join(root, "node_modules/.bin", name), args, { encoding: "utf8" });
    return { status, said: `${stdout}${stderr}` };
  };
  const lint = tool("publint", "run", tarball, "--strict");
  expect(lint.status, lint.said).toBe(0);
  // ES modules only, and entries that are no code to import.
  const files = ["./worker.js", "./engine_bg.wasm", "./kernels.wasm", "./kernels_relaxed.wasm", "./grammar.wasm"];
  const types = tool("attw", tarball, "--profile", "esm-only", "--exclude-entrypoints", ...files);
  expect(types.status, types.said).toBe(0);
});

test("Node: the package and its command, out of the tarball", () => {
  const model = process.env.EMBERGRAM_TINY_MODEL;
  const { path, run } = project("node", [], { "main.js": program("embergram").replace("/tiny.gguf", model) });
  const printed = execFileSync(process.execPath, ["main.js"], { cwd: path, encoding: "utf8" });
  expect(JSON.parse(printed.slice("result ".length))).toEqual(text);
  expect(run("embergram", "generate", model, "the", "--max-tokens", "6", "--max-model-len", "64")).toMatch(/\S/);
});

test("Vite: a build, and the development server", async () => {
  const { path, run } = project("vite", ["vite"], { "main.js": program("embergram"), "index.html": html("/main.js") });
  run("vite", "build", "--logLevel", "warn");
  expect(await printedFrom(join(path, "dist"))).toEqual(text);
  const server = spawn(process.execPath, ["node_modules/vite/bin/vite.js", "--port", "0", "--host", "127.0.0.1"], { cwd: path, stdio: ["ignore", "pipe", "inherit"] });
  try {
    const url = await new Promise((resolve, reject) => {
      let shown = "";
      server.stdout.on("data", (data) => {
        // Vite colours parts of the address.
        shown += String(data).replace(/\x1b\[\d+m/g, "");
        const found = /http:\/\/127\.0\.0\.1:\d+\//.exec(shown);
        if (found) resolve(found[0]);
      });
      server.once("exit", () => reject(new Error(`vite ended: ${shown}`)));
    });
    expect(await printed(url)).toEqual(text);
  } finally {
    server.kill();
  }
});

test("webpack 5: a build", async () => {
  const { path, run } = project("webpack", ["webpack", "webpack-cli"], { "src/index.js": program("embergram") });
  run("webpack", "--mode", "production");
  writeFileSync(join(path, "dist/index.html"), html("main.js"));
  expect(await printedFrom(join(path, "dist"))).toEqual(text);
});

test("esbuild: embergram/inline in one file; or embergram with its files beside the bundle", async () => {
  const { path, run } = project("esbuild", ["esbuild"], { "inline.js": program("embergram/inline"), "files.js": program("embergram") });
  run("esbuild", "inline.js", "--bundle", "--format=esm", "--outfile=inline/main.js", "--log-level=error");
  writeFileSync(join(path, "inline/index.html"), html("main.js"));
  expect(await printedFrom(join(path, "inline"))).toEqual(text);
  run("esbuild", "files.js", "--bundle", "--format=esm", "--outfile=files/main.js", "--log-level=error");
  writeFileSync(join(path, "files/index.html"), html("main.js"));
  // Without them the error says what to do.
  expect(await printedFrom(join(path, "files"))).toMatchObject({ code: "internal", message: expect.stringContaining("docs/packaging.md") });
  for (const file of ["worker.js", "engine_bg.wasm", "kernels.wasm", "kernels_relaxed.wasm"]) cpSync(join(path, "node_modules/embergram/dist", file), join(path, "files", file));
  expect(await printedFrom(join(path, "files"))).toEqual(text);
});

test("tsc: a strict project sees the types, as a bundler and as Node resolve them", () => {
  const sample = `
import { Llm, EmbergramError, modelCache, type Delta, type LoadOptions, type RequestOutput } from "embergram";
import { Llm as Inline } from "embergram/inline";
export async function main(file: File): Promise<string> {
  const options: LoadOptions = { model: file, max_model_len: 512, speculative_config: { method: "ngram", num_speculative_tokens: "auto" } };
  const llm: Llm = await Llm.load(options);
  const outputs: RequestOutput[] = await llm.generate(["a", [1, 2]], { max_tokens: 4 }, { signal: AbortSignal.timeout(1000) });
  const stream = llm.stream("a");
  for await (const delta of stream) { const part: Delta = delta; part.text.trim(); }
  await llm.chat([{ role: "user", content: "a" }]);
  const answer = await llm.chat.completions.create({ messages: [{ role: "user", content: "a" }] });
  const cached: number = await modelCache.size();
  // @ts-expect-error an option that there is none of
  await llm.generate("a", { temprature: 1 });
  // @ts-expect-error not a prompt
  await llm.generate(7);
  try { await Inline.supported(); } catch (e) { if (e instanceof EmbergramError && e.code === "no_webgpu") throw e; }
  await llm.unload();
  return (outputs[0]?.outputs[0]?.text ?? "") + (answer.choices[0]?.message.content ?? "") + cached;
}
`;
  const options = { strict: true, noEmit: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, target: "es2022", lib: ["es2022", "dom", "dom.iterable", "esnext.disposable"], types: [] };
  const { run } = project("types", ["typescript"], {
    "main.ts": sample,
    "bundler.json": JSON.stringify({ compilerOptions: { ...options, module: "esnext", moduleResolution: "bundler" }, files: ["main.ts"] }),
    "nodenext.json": JSON.stringify({ compilerOptions: { ...options, module: "nodenext", moduleResolution: "nodenext" }, files: ["main.ts"] }),
  });
  // tsc tells its findings on stdout, which a failure of execFileSync keeps apart from its message.
  const tsc = (config) => {
    try {
      return run("tsc", "-p", config);
    } catch (error) {
      return String(error.stdout);
    }
  };
  expect(tsc("bundler.json")).toBe("");
  expect(tsc("nodenext.json")).toBe("");
});
