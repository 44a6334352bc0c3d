// What a step can cost at best: its bytes over a device's bandwidth or its instructions over its rate, whichever is more, for
// each kernel, and a fixed cost for each dispatch. A model, not a measurement: what is known beforehand, so that what is
// measured has a ceiling beside it.

/** Published figures: bandwidth in GB/s; FP32 lanes times boost clock in 10^12 instructions/s (half of the FLOPS that makers
 * print, without dual issue); whose compiler counts the instructions, where the device's own is not at hand. */
export const FIGURES = [
  { name: "NVIDIA H100 SXM", bandwidth: 3350, rate: 33.5, as: "navi21" },
  { name: "GeForce RTX 4090", bandwidth: 1008, rate: 41.3, as: "navi21" },
  { name: "GeForce RTX 2080", bandwidth: 448, rate: 5.03, as: "navi21" },
  { name: "Radeon RX 7900 XTX", bandwidth: 960, rate: 15.4, as: "navi31" },
  { name: "Radeon RX 6800", bandwidth: 512, rate: 8.08, as: "navi21" },
  { name: "Ryzen 7 4800U (Vega 8, LPDDR4X-4266)", bandwidth: 68, rate: 0.9, as: "renoir" },
  { name: "Apple M2 (10 cores)", bandwidth: 100, rate: 1.79, as: "navi21" },
  { name: "Intel Iris Xe (96 EU, LPDDR4X-4266)", bandwidth: 68, rate: 1.04, as: "navi21" },
];

/** Microseconds from the end of a dispatch to the beginning of the one that needs its result. An assumption. */
export const DISPATCH = 3;

const ONCE = /^(embed|logits|argmax)/;
/** What a step of decoding within one split of attention leaves out. */
const LEFT_OUT = /^attention_(merge|prompt)/;

/** Milliseconds of a step of so many rows, and what they are made of. */
export function step(figures, { bandwidth, rate, as }, rows) {
  const own = figures.filter(({ device, kernel, tile, tiled }) => device === as && !LEFT_OUT.test(kernel) && (!tiled || tile === rows));
  const sum = { bytes: 0, instructions: 0, kernels: 0, dispatches: 0 };
  for (const { kernel, dispatches, layers, made, weights, bytes, valuPerWeight } of own) {
    const times = dispatches * (ONCE.test(kernel) ? 1 : layers / made);
    const [loaded, issued] = [bytes / bandwidth / 1e6, (weights * (valuPerWeight ?? 0)) / rate / 1e9];
    sum.bytes += times * loaded;
    sum.instructions += times * issued;
    sum.kernels += times * Math.max(loaded, issued);
    sum.dispatches += (times * DISPATCH) / 1e3;
  }
  return { ...sum, total: sum.kernels + sum.dispatches };
}

/** A table of all plans among the figures. */
export function ceilings(figures) {
  const plans = new Map(figures.map(({ shape, type }) => [`${shape} ${type}`, { shape, type }]));
  const lines = [
    "| plan | device | bytes, ms | instructions at 1, 6 rows, ms | dispatches, ms | step at 1, 6 rows, ms | c(6) | c(6) of instructions |",
    "|---|---|---|---|---|---|---|---|",
  ];
  const ms = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(1));
  for (const [name, { shape, type }] of plans) {
    const own = figures.filter((figure) => figure.shape === shape && figure.type === type);
    for (const device of FIGURES.filter(({ as }) => own.some((figure) => figure.device === as))) {
      const [one, six] = [1, 6].map((rows) => step(own, device, rows));
      lines.push(`| ${[
        name, device.name, ms(one.bytes), `${ms(one.instructions)}, ${ms(six.instructions)}`, ms(one.dispatches),
        `${ms(one.total)}, ${ms(six.total)}`, (six.total / one.total).toFixed(2), (six.instructions / one.instructions).toFixed(2),
      ].join(" | ")} |`);
    }
  }
  return lines.join("\n");
}
