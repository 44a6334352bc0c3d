// Where the engine may run, in a real Chromium: the package's worker, the page, a worker of the caller's, tabs; under a
// strict Content-Security-Policy, and loaded from another origin.
import { readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { ISOLATED } from "../../scripts/backend.mjs";
import { launch } from "../../scripts/browser.mjs";
import { dist } from "../../scripts/build.mjs";
import { serve } from "../support/server.mjs";

const CSP = {
  own: "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'",
  cdn: (cdn) => `default-src 'none'; script-src 'self' ${cdn} 'wasm-unsafe-eval'; worker-src blob: ${cdn}; connect-src 'self' ${cdn}`,
};
/** Generates in any context; a prompt of one token keeps the number of pipelines small. */
const generate = (options) => `
  const llm = await Llm.load({ model: new URL("/tiny.gguf", ORIGIN).href, max_model_len: 64, ...${JSON.stringify(options)} });
  const outputs = await llm.generate("the", { max_tokens: 6, temperature: 0, ignore_eos: true });
  const tokens = outputs[0].outputs[0].token_ids;
  await llm.unload();`;

let context;
const servers = [];
beforeAll(async () => {
  context = await launch();
});
afterEach(async () => {
  await Promise.all(context.pages().slice(1).map((page) => page.close()));
  await Promise.all(servers.splice(0).map((server) => server.close()));
});
afterAll(() => context?.close());

/** A server with the package at its root, the model, and these files. */
async function start({ headers = {}, files = {} } = {}) {
  const server = await serve({ root: dist, headers });
  servers.push(server);
  server.file("/tiny.gguf", readFileSync(process.env.EMBERGRAM_TINY_MODEL));
  for (const [path, text] of Object.entries({ "/": '<!doctype html><title>test</title><script type="module" src="/page.js"></script>', ...files })) {
    server.file(path, Buffer.from(text), { "content-type": path.endsWith(".js") ? "text/javascript" : "text/html" });
  }
  return server;
}

/** Opens the server's page, whose script is `body`; returns what that gives, and what the console had to say. */
async function visit(server, body, { init } = {}) {
  const script = `
    const ORIGIN = location.origin;
    const violations = [];
    addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective + " " + e.blockedURI));
    const shown = ({ name, code, message }) => ({ error: { name, code, message } });
    const result = await (async () => { ${body} })().catch(shown);
    console.log("result " + JSON.stringify({ result, violations }));`;
  server.file("/page.js", Buffer.from(script), { "content-type": "text/javascript" });
  const page = await context.newPage();
  if (init) await page.addInitScript(init);
  const complaints = [];
  const answer = new Promise((resolve, reject) => {
    page.on("console", (message) => {
      const text = message.text();
      if (text.startsWith("result ")) resolve(JSON.parse(text.slice(7)));
      else if (message.type() === "error" && !text.includes("favicon")) complaints.push(text);
    });
    page.on("pageerror", reject);
  });
  await page.goto(server.origin);
  return { ...(await answer), complaints };
}

const inWorker = `
  import { Llm } from "/index.js";
  const ORIGIN = location.origin;
  const run = async () => { ${generate({ worker: false })} return { tokens, name: llm.model.name, threads: llm.model.adapter.threads }; };
  const answer = async (port) => port.postMessage(await run().catch(({ code, message }) => ({ error: { code, message } })));
  if ("onconnect" in self) self.onconnect = ({ ports: [port] }) => answer(port);
  else answer(self);`;

/** What a main thread sees of the engine when it runs there. */
const SEEN = {
  cpu: ["WebAssembly.instantiateStreaming", "WebAssembly.compile", "WebAssembly.instantiate"],
  webgpu: ["WebAssembly.instantiateStreaming", "GPUAdapter.requestDevice", "GPUDevice.createComputePipeline", "GPUQueue.submit", "GPUBuffer.mapAsync"],
};

// What the package's worker gives: the others must give the same.
let expected = expect.any(Array);
test.each(["cpu", "webgpu"])("the package's worker leaves the main thread alone; with worker: false the engine runs there, on %s", async (backend) => {
  const server = await start();
  /** Notes every call of WebAssembly and WebGPU on the main thread. */
  const record = () => {
    globalThis.engineCalls = [];
    const watch = (owner, name, shown) => {
      const own = owner[name];
      owner[name] = function (...args) {
        globalThis.engineCalls.push(shown);
        return Reflect.apply(own, this, args);
      };
    };
    for (const name of ["instantiate", "instantiateStreaming", "compile", "compileStreaming"]) watch(WebAssembly, name, `WebAssembly.${name}`);
    for (const name of ["Module", "Instance"]) {
      WebAssembly[name] = new Proxy(WebAssembly[name], {
        construct: (target, args) => (globalThis.engineCalls.push(`WebAssembly.${name}`), Reflect.construct(target, args)),
      });
    }
    for (const type of [GPU, GPUAdapter, GPUDevice, GPUQueue, GPUBuffer, GPUCommandEncoder, GPUComputePassEncoder]) {
      for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(type.prototype))) {
        if (typeof value === "function" && name !== "constructor") watch(type.prototype, name, `${type.name}.${name}`);
      }
    }
  };
  const { result } = await visit(server, `
    const { Llm } = await import("/index.js");
    const run = async (worker) => {
      engineCalls.length = 0;
      ${generate({ backend }).replace("max_model_len", "worker, max_model_len")}
      return { tokens, calls: [...new Set(engineCalls)] };
    };
    const supported = await Llm.supported();
    const asked = [...engineCalls];
    return { supported, asked, apart: await run(true), here: await run(false), again: await run(false) };
  `, { init: record });
  expect(result.error).toBeUndefined();
  expect(result.supported).toMatchObject({
    backend: "cpu", adapter: { backend: "cpu" }, webgpu: true, reason: null, webgpu_adapter: { backend: "webgpu", name: expect.any(String) },
  });
  expect(result.supported.max_tensor_bytes).toBeGreaterThanOrEqual(128 << 20);
  expect(result.asked).toEqual(["GPU.requestAdapter"]);
  expect(result.apart.calls).toEqual([]);
  // The recorder does see the engine where it is.
  expect(result.here.calls).toEqual(expect.arrayContaining(SEEN[backend]));
  expect(result.apart.tokens).toEqual(expected);
  expected = result.apart.tokens;
  expect(expected).toHaveLength(6);
  expect(result.here.tokens).toEqual(expected);
  expect(result.again.tokens).toEqual(expected);
});

test("with worker: false calls of one turn overlap, as they do in a worker", async () => {
  const server = await start();
  const { result } = await visit(server, `
    const { Llm } = await import("/index.js");
    const llm = await Llm.load({ model: "/tiny.gguf", max_model_len: 64, worker: false });
    const one = () => llm.generate("the", { max_tokens: 6, temperature: 0, ignore_eos: true }).then(([o]) => o.outputs[0].token_ids);
    const [first, second, metrics] = await Promise.all([one(), one(), llm.getMetrics()]);
    const overlapping = one();
    const third = await one();
    return { tokens: [first, second, await overlapping, third], metrics: metrics.length };
  `);
  expect(result.error).toBeUndefined();
  expect(result.tokens).toEqual([expected, expected, expected, expected]);
  expect(result.metrics).toBeGreaterThan(20);
});

test.each([["", {}], [", where threads may share memory", ISOLATED]])("inside a caller's own dedicated worker, and in a shared worker%s", async (_, headers) => {
  const server = await start({ headers, files: { "/in-worker.js": inWorker } });
  const { result } = await visit(server, `
    const answer = (port) => new Promise((done) => (port.onmessage = (e) => done(e.data)));
    return {
      dedicated: await answer(new Worker("/in-worker.js", { type: "module" })),
      shared: await answer(new SharedWorker("/in-worker.js", { type: "module" }).port),
    };`);
  const same = { tokens: expected, name: "random tiny", threads: expect.any(Number) };
  expect(result).toEqual({ dedicated: same, shared: same });
  // Chromium's shared workers can start no others.
  expect([result.dedicated.threads, result.shared.threads]).toEqual([headers === ISOLATED ? 2 : 1, 1]);
  expect(server.requests.filter(({ path }) => path === "/in-worker.js")).toHaveLength(2);
});

test("two tabs at once", async () => {
  const server = await start();
  const body = `const { Llm } = await import("/index.js"); ${generate({})} return { tokens };`;
  const both = await Promise.all([visit(server, body), visit(server, body)]);
  expect(both.map(({ result }) => result)).toEqual([{ tokens: expected }, { tokens: expected }]);
});

test.each([false, true])("under a strict Content-Security-Policy; cross-origin isolation: %s", async (isolated) => {
  const server = await start({ headers: { "content-security-policy": CSP.own, ...(isolated && ISOLATED) } });
  const { result, violations, complaints } = await visit(server, `
    const { Llm } = await import("/index.js"); ${generate({})} return { tokens, isolated: crossOriginIsolated, threads: llm.model.adapter.threads };`);
  expect(result).toEqual({ tokens: expected, isolated, threads: isolated ? 2 : 1 });
  expect(violations).toEqual([]);
  expect(complaints).toEqual([]);
});

test("from another origin the worker starts through a blob, which worker-src must allow; so do its threads", async () => {
  const cdn = await start({ headers: { "access-control-allow-origin": "*" } });
  const body = `const { Llm } = await import("${cdn.origin}/index.js"); ${generate({})} return { tokens };`;
  const isolated = await visit(await start({ headers: { "content-security-policy": CSP.cdn(cdn.origin), ...ISOLATED } }), body.replace("tokens }", "tokens, threads: llm.model.adapter.threads }"));
  expect(isolated).toEqual({ result: { tokens: expected, threads: 2 }, violations: [], complaints: [] });
  const allowed = await visit(await start({ headers: { "content-security-policy": CSP.cdn(cdn.origin) } }), body);
  expect(allowed).toEqual({ result: { tokens: expected }, violations: [], complaints: [] });
  const policy = CSP.cdn(cdn.origin).replace("worker-src blob:", "worker-src");
  const refused = await visit(await start({ headers: { "content-security-policy": policy } }), body);
  expect(refused.result.error).toMatchObject({ name: "EmbergramError", code: "internal" });
  expect(refused.result.error.message).toContain("docs/packaging.md");
  expect(refused.violations).toEqual(["worker-src blob"]);
});

test.each([false, true])("embergram/inline fetches nothing but the model, and needs worker-src blob:; isolated: %s", async (isolated) => {
  const policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src blob:; connect-src 'self'";
  const server = await start({ headers: { "content-security-policy": policy, ...(isolated && ISOLATED) } });
  const { result, violations, complaints } = await visit(server, `
    const { Llm } = await import("/inline.js"); ${generate({})}
    const shared = await Llm.load({ model: "/tiny.gguf", worker: "shared" }).catch(({ code }) => code);
    return { tokens, threads: llm.model.adapter.threads, shared };`);
  expect({ result, violations, complaints }).toEqual({
    result: { tokens: expected, threads: isolated ? 2 : 1, shared: "invalid_config" }, violations: [], complaints: [],
  });
  const fetched = new Set(server.requests.map((r) => r.path).filter((path) => path !== "/favicon.ico"));
  expect([...fetched].sort()).toEqual(["/", "/inline.js", "/page.js", "/tiny.gguf"]);
});
