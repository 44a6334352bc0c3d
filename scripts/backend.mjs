// Where a model is to run, as the command line says it.

const OPTIONS = {
  backend: ["--backend NAME", "auto, webgpu or cpu; default auto: a GPU where there is one, else the CPU"],
  threads: ["--threads N", "threads of the CPU backend; default all cores but one, of two cores both"],
  precision: ["--precision NAME", "full, or fast: activations of eight bits on the CPU; default full"],
};

/** Lines of a command's help whose options take so many columns. */
export const backendHelp = (width, names = Object.keys(OPTIONS)) =>
  names.map((name) => OPTIONS[name]).map(([option, text]) => `  ${option.padEnd(width)}${text}\n`).join("");

/** For `parseArgs`. */
export const BACKEND_OPTIONS = { backend: { type: "string" }, threads: { type: "string" }, precision: { type: "string" } };

/** The options of a load; throws where a number is none. The package knows the backends, and checks the rest. */
export function backendOf({ backend, threads, precision }) {
  if (threads !== undefined && !/^\d+$/.test(threads)) throw new Error(`--threads is '${threads}'; give a number`);
  const given = { backend, threads: threads === undefined ? undefined : Number(threads), precision };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** What a model ran on, in words. */
export function ranOn({ backend, name, software }) {
  return backend === "cpu" ? name : `${name} (WebGPU${software ? ", software" : ""})`;
}

/** With these headers a page is cross-origin isolated, so that threads may share memory. */
export const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
