// Where there is no browser: a server that renders pages imports the package like any other.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { dist } from "../../scripts/build.mjs";

/** Runs a module in a plain node, where `embergram` is the package; returns what it prints as JSON. */
const node = (entry, body) => {
  const script = `
    const touched = [];
    for (const name of ["window", "document", "self", "location", "Worker", "SharedWorker", "navigator", "indexedDB", "localStorage"]) {
      Object.defineProperty(globalThis, name, { configurable: true, get: () => void touched.push(name) });
    }
    const embergram = await import(${JSON.stringify(pathToFileURL(join(dist, entry)).href)});
    const imported = [...touched];
    const error = (promise) => promise.then(() => null, ({ name, code, message }) => ({ name, code, message }));
    console.log(JSON.stringify({ touched: imported, result: await (async () => { ${body} })() }));`;
  return JSON.parse(execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" }));
};

test.each(["index.js", "inline.js", "node.js"])("%s: the import touches no browser global, and supported() says what runs", (entry) => {
  const { touched, result } = node(entry, `return {
    names: Object.keys(embergram), supported: await embergram.Llm.supported(),
    load: await error(embergram.Llm.load({ model: "/none.gguf", baseUrl: "https://example.invalid", backend: "webgpu" })),
  };`);
  expect(touched).toEqual([]);
  expect(result.names).toEqual(expect.arrayContaining(["Llm", "EmbergramError", "modelCache", "formatTuneTable"]));
  expect(result.supported).toMatchObject({ webgpu: false, backend: "cpu", adapter: { backend: "cpu" } });
  expect(result.supported.reason.length).toBeGreaterThan(20);
  // A page's script has no way to its module here.
  expect(result.load).toMatchObject({ name: "EmbergramError", code: entry === "index.js" ? "network" : "no_webgpu" });
});
