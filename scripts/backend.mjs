// Where a model is to run, as the command line says it.

/** Lines of a command's help whose options take so many columns. */
export const backendHelp = (width) =>
  [
    ["--backend NAME", "auto, webgpu or cpu; default auto: a GPU where there is one, else the CPU"],
    ["--threads N", "threads of the CPU backend; default all cores but one, of two cores both"],
  ].map(([option, text]) => `  ${option.padEnd(width)}${text}\n`).join("");

/** For `parseArgs`. */
export const BACKEND_OPTIONS = { backend: { type: "string" }, threads: { type: "string" } };

/** The options of a load; throws where a number is none. The package knows the backends, and checks the rest. */
export function backendOf({ backend, threads }) {
  if (threads !== undefined && !/^\d+$/.test(threads)) throw new Error(`--threads is '${threads}'; give a number`);
  return { ...(backend !== undefined && { backend }), ...(threads !== undefined && { threads: Number(threads) }) };
}

/** What a model ran on, in words. */
export function ranOn({ backend, name, software }) {
  return backend === "cpu" ? name : `${name} (WebGPU${software ? ", software" : ""})`;
}

/** With these headers a page is cross-origin isolated, so that threads may share memory. */
export const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
