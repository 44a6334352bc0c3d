// What it brings to submit a step before the one before it has been read.

/**
 * Runs in the page, with the engine in the page's own thread: tokens per second with and without `async_scheduling`, the two taking
 * turns, where each read-back takes so many milliseconds longer.
 * @param {{ model: string, delays: number[], tokens: number, rounds: number }} options
 */
export async function aheadFigures({ model, delays, tokens, rounds }) {
  const { Llm } = await import("/dist/here.js");
  const { prototype } = globalThis.GPUBuffer;
  const own = prototype.mapAsync;
  let delay = 0;
  prototype.mapAsync = async function (...range) {
    await own.apply(this, range);
    if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
  };
  const settings = [];
  for (const async_scheduling of [false, true]) {
    settings.push({ async_scheduling, llm: await Llm.load({ model, backend: "webgpu", max_model_len: 512, async_scheduling }) });
  }
  const params = { temperature: 0, ignore_eos: true };
  const run = async (llm, max_tokens) => (await llm.generate("The sea is", { ...params, max_tokens }))[0];
  const results = [];
  let text;
  for (delay of delays) {
    const all = settings.map(() => []);
    for (let round = 0; round <= rounds; round++) {
      for (const [i, { llm }] of settings.entries()) {
        const { outputs: [output], metrics } = await run(llm, round === 0 ? 4 : tokens);
        if (round === 0) continue;
        text ??= output.text;
        if (output.text !== text) throw new Error(`${text} became ${output.text}`);
        all[i].push((tokens - 1) / metrics.decode_time);
      }
    }
    results.push({ delay, tokens_per_second: Object.fromEntries(settings.map(({ async_scheduling }, i) => [async_scheduling, all[i]])) });
  }
  const { adapter } = settings[0].llm.model;
  for (const { llm } of settings) await llm.unload();
  return { adapter, results };
}
