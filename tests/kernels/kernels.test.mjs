// The kernels' modules by themselves: they are instantiated on shared memory with several threads, and on plain memory as in a
// page without cross-origin isolation, and compute the same bits.
import { readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { join } from "node:path";
import { expect, test } from "vitest";
import { dist } from "../../scripts/build.mjs";
import { unshared } from "../../www/embergram/cpu/shared-flag.ts";

const [D, VOCAB, ROWS] = [64, 50, 11];
const BYTES = 4 << 20;

/** A float between -1 and 1. */
const value = (i) => Math.fround(Math.sin(i * 12.9898) * 0.99);

/** A quant of four bits; the weight is a tenth of it and `MIN`. */
const quant = (i) => Math.floor((value(i) + 1) * 8);
const [SCALE, MIN] = [Math.fround(0.1), Math.fround(-0.75)];

/** Writes a step of embedding, a product and logits; gives where things lie. `fast`: the product is of quants and bytes. */
function write(memory, heap, threads, fast) {
  const u32 = new Uint32Array(memory.buffer);
  const f32 = new Float32Array(memory.buffer);
  let end = heap;
  const take = (bytes) => {
    const at = Math.ceil(end / 64) * 64;
    end = at + bytes;
    return at;
  };
  // kernels/src/format.rs: sixteen rows a bundle; of each 32 weights its four panels in turn, four rows side by side.
  const matrix = (rows, seed) => {
    const at = take(Math.ceil(rows / 16) * D * 64);
    const place = (row, k) => {
      const bundle = Math.floor(row / 16) * D * 16 + Math.floor(k / 32) * 512;
      return bundle + (Math.floor(row / 4) % 4) * 128 + (k % 32) * 4 + (row % 4);
    };
    for (let row = 0; row < rows; row++) {
      for (let k = 0; k < D; k++) f32[at / 4 + place(row, k)] = value(seed + row * D + k);
    }
    return [0, rows, at, 0];
  };
  // The same with eight quants in a word, and scales and mins after the 32.
  const quants = (rows, seed) => {
    const at = take((rows / 16) * (D / 32) * 4 * 96);
    const bytes = new Uint8Array(memory.buffer);
    for (let row = 0; row < rows; row++) {
      for (let k = 0; k < D; k++) {
        const group = at + ((Math.floor(row / 16) * (D / 32) + Math.floor(k / 32)) * 4 + (Math.floor(row / 4) % 4)) * 96;
        const lane = (row % 4) * 4;
        bytes[group + Math.floor((k % 32) / 8) * 16 + lane + ((k % 8) >> 1)] |= quant(seed + row * D + k) << (4 * (k % 2));
        f32[(group + 64 + lane) / 4] = SCALE;
        f32[(group + 80 + lane) / 4] = MIN;
      }
    }
    return [4, rows, at, 0];
  };
  const [table, weights, output] = [matrix(VOCAB, 1), fast ? quants(D, 5000) : matrix(D, 5000), matrix(VOCAB, 9000)];
  const gain = take(D * 4);
  f32.fill(1.5, gain / 4, gain / 4 + D);
  const control = take(64);
  const scratchBytes = 1 << 20;
  const activations = () => take(ROWS * D * 4);
  const [scratch, residual, branch, logits, sampled] = [take(threads * scratchBytes), activations(), activations(), take(ROWS * VOCAB * 4), take(64)];
  // kernels/src/step.rs: kind, layer, input, inner, output, gain, bias, rope, window, flag, matrices, three matrices.
  const op = (kind, { input = 0, inner = 0, output = 0, gain = 0, matrix }) => {
    const matrices = [matrix ?? [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]];
    return [kind, 0, input, inner, output, gain, 0, 0, 0, 0, matrix ? 1 : 0, ...matrices.flat()];
  };
  const list = [
    op(0, { output: residual, matrix: table }),
    op(0, { output: branch, matrix: table }),
    // What a product reads it does not write, as in a program.
    op(5, { input: branch, inner: D, output: residual, gain, matrix: weights }),
    op(8, { input: residual, inner: D, output: logits, gain, matrix: output }),
    op(9, { input: logits }),
  ];
  const words = (values) => {
    const at = take(values.length * 4);
    u32.set(values, at / 4);
    return at;
  };
  const bits = (float) => new Uint32Array(Float32Array.of(float).buffer)[0];
  const each = Array.from({ length: ROWS }, (_, i) => i);
  const [ops, counters] = [words(list.flat()), words(list.map(() => 0))];
  const shape = [D, D, 1, 1, D, VOCAB, 0, bits(1e-5), ...[1, 1, 1, 1].map(bits), 0, 0];
  // Six rows decode, the others are of a prompt.
  const step = words([
    ...shape, ops, list.length, counters, control, scratch, scratchBytes, ROWS, 6, ROWS, 0, words(each.map((i) => i * 3)), words(each),
    0, 0, words(each), 16, 0, 0, 0, sampled, fast ? 1 : 0,
  ]);
  return { control, step, logits, sampled, end };
}

async function compute(bytes, threads, shared, fast) {
  const module = await WebAssembly.compile(shared ? bytes : unshared(bytes));
  const memory = new WebAssembly.Memory({ initial: BYTES / 65536 + threads * 16, maximum: 65536, shared });
  const env = { memory, wait: () => {}, notify: (address) => void Atomics.notify(new Int32Array(memory.buffer), address / 4) };
  const { exports } = await WebAssembly.instantiate(module, { env });
  const { control, step, logits, sampled, end } = write(memory, exports.__heap_base.value, threads, fast);
  const workers = await Promise.all(
    Array.from({ length: threads - 1 }, async (_, i) => {
      const workerData = { module, memory, stack: end + (i + 1) * 65536, control, thread: i + 1, threads };
      const worker = new Worker(new URL("worker.mjs", import.meta.url), { workerData });
      await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
      return worker;
    }),
  );
  exports.embergram_run(control, step, threads);
  exports.embergram_quit(control);
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once("exit", resolve))));
  return {
    logits: new Uint32Array(memory.buffer, logits, ROWS * VOCAB).slice(),
    tokens: [...new Uint32Array(memory.buffer, sampled, ROWS)],
  };
}

/** Activations as multiples of a 127th of the largest of 32. */
function ofEightBits(x) {
  return x.map((v, k) => {
    const block = x.slice(k - (k % 32), k - (k % 32) + 32);
    const step = Math.max(...block.map(Math.abs)) / 127;
    return Math.round(v / step) * step;
  });
}

/** The same in JavaScript's doubles. */
function expected(fast) {
  const norm = (x) => {
    const inverse = 1 / Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / D + 1e-5);
    return x.map((v) => v * inverse * 1.5);
  };
  const product = (rows, seed, x) => Array.from({ length: rows }, (_, row) => x.reduce((sum, v, k) => sum + v * value(seed + row * D + k), 0));
  return Array.from({ length: ROWS }, (_, i) => {
    const x = Array.from({ length: D }, (_, k) => value(1 + i * 3 * D + k));
    const weight = (row, k) => quant(5000 + row * D + k) * SCALE + MIN;
    const bytes = ofEightBits(norm(x));
    const branch = fast ? x.map((_, row) => bytes.reduce((sum, v, k) => sum + v * weight(row, k), 0)) : product(D, 5000, norm(x));
    return product(VOCAB, 9000, norm(x.map((v, k) => v + branch[k])));
  }).flat();
}

test.each([["kernels", false], ["kernels", true], ["kernels_relaxed", false], ["kernels_relaxed", true]])("%s, fast %s: the same bits on plain and on shared memory, with any number of threads", async (name, fast) => {
  const bytes = Uint8Array.from(readFileSync(join(dist, `${name}.wasm`)));
  // Node 20 has relaxed SIMD behind a flag.
  if (!WebAssembly.validate(bytes)) return expect(name).toBe("kernels_relaxed");
  // One byte of the module says whether its memory is shared.
  expect(unshared(bytes).filter((byte, i) => byte !== bytes[i])).toEqual(Uint8Array.of(1));
  const alone = await compute(bytes, 1, false, fast);
  const right = expected(fast);
  const made = new Float32Array(alone.logits.buffer);
  made.forEach((logit, i) => expect(Math.abs(logit - right[i])).toBeLessThan(1e-4));
  for (const [i, token] of alone.tokens.entries()) {
    const row = made.subarray(i * VOCAB, (i + 1) * VOCAB);
    expect(token).toBe(row.indexOf(Math.max(...row)));
  }
  for (const threads of [1, 2, 3]) expect(await compute(bytes, threads, true, fast)).toEqual(alone);
});
