// The engine's own figures, without speculation.

/**
 * Runs in the page: load, prefill, decoding, and what a step costs by its rows.
 * @param {{ model: string, backend: object, rows: number[], steps: number }} options `backend`: options of a load; `steps` are timed for each number of rows.
 */
export async function engineFigures({ model, backend, rows, steps }) {
  const { Llm } = globalThis.embergram;
  const begin = performance.now();
  const llm = await Llm.load({ model, ...backend, cache: false, max_model_len: 2048, max_num_seqs: Math.max(...rows) });
  const load_seconds = (performance.now() - begin) / 1e3;
  const params = { temperature: 0, ignore_eos: true };
  const words = (n, salt) => Array.from({ length: n }, (_, i) => 300 + ((i * 7919 + salt * 104729) % 400));
  const figure = async (name) => (await llm.getMetrics()).find((metric) => metric.name === name);
  const batch = (count) => Array.from({ length: count }, (_, i) => words(4, i));
  // The first use of a kernel waits for its compilation.
  for (const count of rows) await llm.generate(batch(count), { ...params, max_tokens: 3 });

  const prompt = words(256, 99);
  const [{ metrics }] = await llm.generate([prompt], { ...params, max_tokens: 1 });
  const half = Math.ceil(steps / 2);
  const samples = Object.fromEntries(rows.map((count) => [count, []]));
  // There and back, so that a machine that slows down does so for all.
  for (const count of [...rows, ...[...rows].reverse()]) {
    const outputs = await llm.generate(batch(count), { ...params, max_tokens: half + 1 });
    samples[count].push(...outputs.map(({ metrics: m }) => m.decode_time / half));
  }
  const mean = (values) => values.reduce((a, b) => a + b) / values.length;
  const step_seconds = Object.fromEntries(rows.map((count) => [count, mean(samples[count])]));

  const before = await figure("embergram:readback_bytes");
  const stepsBefore = await figure("embergram:rows_per_step");
  await llm.generate([words(4, 5)], { ...params, max_tokens: 8 });
  const bytes = (await figure("embergram:readback_bytes")).value - before.value;
  const counted = (await figure("embergram:rows_per_step")).count - stepsBefore.count;
  const dispatches = await figure("embergram:dispatches_per_step");
  const result = {
    model: llm.model, load_seconds, prompt_tokens_per_second: prompt.length / metrics.prefill_time,
    decode_tokens_per_second: 1 / step_seconds[rows[0]], step_seconds,
    dispatches_per_step: dispatches.sum / dispatches.count, readback_bytes_per_step: bytes / counted,
    gpu_memory_bytes: (await figure("embergram:gpu_memory_bytes")).value,
    wasm_heap_bytes: (await figure("embergram:wasm_heap_bytes")).value,
  };
  await llm.unload();
  return result;
}
