// What the compilers of real GPUs make of the kernels, without the GPUs: npm run isa -- [options] [SHAPE:TYPE ...]
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ceilings } from "./isa/ceilings.mjs";
import { AMD, DEVICES, PHONES, compile, compilers, each } from "./isa/compilers.mjs";
import { cache, root, vulkan } from "./setup.mjs";

const SHAPES = ["smollm2-135m", "llama-3.2-1b", "qwen3-4b", "llama-3.1-8b", "gemma-3-1b"];
const TYPES = ["Q4_0", "Q4_K", "Q6_K", "Q8_0"];

/** Bounds of what a device's compiler, in this version, makes of the kernels of some plans; numbers that only go down. */
const BOUNDS = join(root, "scripts/isa/bounds.json");

const HELP = `npm run isa -- [options] [SHAPE:TYPE ...]

Compiles every kernel of plans for GPUs that are not there and prints what they take, as a table: registers of an invocation,
waves that a SIMD unit holds at once, spills, and vector instructions in the main loop for each weight.

  SHAPE:TYPE         such as llama-3.2-1b:Q4_0; default all of
                     ${SHAPES.join(", ")}
                     with ${TYPES.join(", ")}
  --devices LIST     of ${AMD.join(", ")}; with --phones also ${PHONES.join(", ")}
  --phones           phones and NVIDIA too, under emulation: seconds to minutes for each kernel
  --rows LIST        rows of a tile; default 1,6
  --ceilings         also what a step can cost at best on named devices
  --json             all figures as JSON on stdout and nothing else
  --ratchet          lower the bounds of scripts/isa/bounds.json to what is measured, where that is less; npm test holds them
`;

/** Every pipeline of these plans, written out for GPUs: name, WGSL and so on, as crate/examples/pipelines.rs lists them. */
function pipelines(pairs, tiles) {
  vulkan();
  const folder = join(cache, "isa/pipelines");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const args = ["run", "-q", "--locked", "-p", "embergram", "--features", "reference", "--example", "pipelines", "--", folder, ...pairs];
  const { status, stdout } = spawnSync("cargo", args, {
    cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 1 << 28, env: { ...process.env, EMBERGRAM_TUNING: "gpu" },
  });
  if (status !== 0) throw new Error(`'cargo ${args.join(" ")}' failed with exit code ${status}`);
  return JSON.parse(stdout)
    .filter(({ tile, tiled }) => !tiled || tiles.includes(tile))
    .map((pipeline) => {
      const wgsl = readFileSync(join(folder, `${pipeline.file}.wgsl`), "utf8");
      const turn = /\/\/ A turn takes (\d+) weights/.exec(wgsl);
      const key = createHash("sha256").update(wgsl).digest("hex");
      return { ...pipeline, key, turn: turn && Number(turn[1]), spirv: join(folder, `${pipeline.file}.spv`) };
    });
}

/** What each device's compiler makes of each pipeline of these plans. What several have in common is compiled once. */
export async function measure(pairs, devices, tiles = [1, 6]) {
  compilers(devices);
  const all = pipelines(pairs, tiles);
  const compiled = new Map();
  const jobs = new Map(all.flatMap((pipeline) => devices.map((device) => [`${device} ${pipeline.key}`, { device, pipeline }])));
  await each([...jobs], async ([key, { device, pipeline }]) => compiled.set(key, await compile(device, pipeline.spirv, pipeline.kinds)));
  return all.flatMap((pipeline) =>
    devices.map((device) => {
      const made = compiled.get(`${device} ${pipeline.key}`);
      const { turn, spirv, key, ...what } = pipeline;
      const valuPerWeight = turn && made.valu ? made.valu / turn : null;
      return { ...what, device, ...made, valuPerWeight };
    }),
  );
}

const leaf = ({ kernel, tile, shape, type }) => [`${shape}:${type}`, kernel, String(tile)];
const taken = ({ file, registers, valuPerWeight }) => {
  if (valuPerWeight === null) throw new Error(`${file}.wgsl does not say '// A turn takes N weights' before its main loop, by which its instructions are counted`);
  return { registers, valuPerWeight: Math.ceil(valuPerWeight * 100) / 100 };
};
const UNITS = { registers: "registers", valuPerWeight: "vector instructions for each weight" };

/** What is over its bound, one sentence each. */
export function violations(figures, bounds) {
  const found = [];
  const seen = new Set();
  for (const figure of figures) {
    const { shape, type, kernel, tile, tiled, device, spills, scratch, weights } = figure;
    const where = `${kernel} of ${shape} ${type}${tiled ? ` at ${tile} rows` : ""} on ${device}`;
    if (spills > 0 || scratch > 0) found.push(`${where} spills ${spills} registers, to ${scratch} bytes; none may be`);
    if (weights === 0) continue;
    const [path, is] = [leaf(figure), taken(figure)];
    seen.add(path.join(" "));
    const bound = path.reduce((at, name) => at?.[name], bounds);
    if (!bound) found.push(`${where} has no bound`);
    for (const [name, unit] of Object.entries(bound ? UNITS : {})) {
      if (is[name] > bound[name]) found.push(`${where} takes ${is[name]} ${unit}; at most ${bound[name]} may be`);
    }
  }
  for (const [plan, kernels] of Object.entries(bounds)) {
    for (const [kernel, tile] of Object.entries(kernels).flatMap(([kernel, tiles]) => Object.keys(tiles).map((tile) => [kernel, tile]))) {
      if (!seen.has([plan, kernel, tile].join(" "))) found.push(`there is a bound for ${kernel} of ${plan} at ${tile} rows, and no such kernel`);
    }
  }
  return [...new Set(found)];
}

const readBounds = () => JSON.parse(readFileSync(BOUNDS, "utf8"));

/** Holds the kernels to scripts/isa/bounds.json. */
export async function check() {
  const { driver, device, bounds } = readBounds();
  const figures = await measure(Object.keys(bounds), [device]);
  const found = violations(figures, bounds);
  if (found.length === 0) return;
  const is = figures[0].driver;
  const hint = is === driver ? "" : `\nThe bounds are those of ${driver}, and this is ${is}: another compiler may need others.`;
  throw new Error(`scripts/isa/bounds.json does not hold:\n${found.join("\n")}${hint}`);
}

/** Lowers the bounds to what is measured, gives new kernels theirs, and takes away those of kernels that are no more. */
async function ratchet() {
  const { device, bounds } = readBounds();
  const figures = await measure(Object.keys(bounds), [device]);
  const next = Object.fromEntries(Object.keys(bounds).map((plan) => [plan, {}]));
  for (const figure of figures.filter(({ weights }) => weights > 0)) {
    const [plan, kernel, tile] = leaf(figure);
    const [is, was] = [taken(figure), bounds[plan][kernel]?.[tile]];
    const least = Object.fromEntries(Object.keys(UNITS).map((name) => [name, Math.min(is[name], was?.[name] ?? Infinity)]));
    (next[plan][kernel] ??= {})[tile] = least;
  }
  const text = JSON.stringify({ driver: figures[0].driver, device, bounds: next }, null, 2);
  // A tile is a line.
  writeFileSync(BOUNDS, `${text.replace(/\{\s+("registers": .+)\s+(.+)\s+\}/g, "{ $1 $2 }")}\n`);
  const found = violations(figures, next);
  if (found.length > 0) throw new Error(found.join("\n"));
}

function table(figures) {
  const lines = ["| plan | kernel | rows | device | registers | waves | spills | instructions | VALU/weight |", "|---|---|---|---|---|---|---|---|---|"];
  for (const { shape, type, kernel, tile, tiled, device, registers, waves, spills, instructions, valuPerWeight } of figures) {
    const cells = [`${shape} ${type}`, kernel, tiled ? tile : "", device, registers ?? "", waves ?? "", spills ?? "", instructions, valuPerWeight?.toFixed(2) ?? ""];
    lines.push(`| ${cells.join(" | ")} |`);
  }
  // The parts of a vocabulary are kernels of the same code.
  return [...new Set(lines)].join("\n");
}

async function main() {
  const text = { type: "string" };
  const flag = { type: "boolean", default: false };
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { devices: text, phones: flag, rows: { ...text, default: "1,6" }, ceilings: flag, json: flag, ratchet: flag, help: flag },
  });
  if (values.help) return console.log(HELP);
  if (values.ratchet) return ratchet();
  const known = values.phones ? [...AMD, ...PHONES] : AMD;
  const devices = values.devices?.split(",") ?? known;
  const unknown = devices.find((name) => !known.includes(name));
  if (unknown) throw new Error(`--devices names '${unknown}'; there are ${known.join(", ")}${DEVICES[unknown] ? ", and with --phones that one" : ""}`);
  const pairs = positionals.length > 0 ? positionals : SHAPES.flatMap((shape) => TYPES.map((type) => `${shape}:${type}`));
  const figures = await measure(pairs, devices, values.rows.split(",").map(Number));
  if (values.json) return console.log(JSON.stringify(figures));
  console.log(table(figures));
  if (values.ceilings) console.log(`\n${ceilings(figures)}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main().catch((error) => {
    console.error(`[isa] ${error.message}`);
    process.exitCode = 1;
  });
}
