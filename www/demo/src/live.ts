/** The live charts: what `getMetrics()` says, over time and now. */
import { barChart, lineChart } from "./chart.js";
import { byId } from "./dom.js";
import { fixed, percent, rate as rated, seconds } from "./format.js";
import type { Monitor, Sample } from "./monitor.js";
import { bars, mean, type Bar } from "./reading.js";
import { TINTS } from "./token-view.js";

/** How far the rate of a moment looks back: these seconds, and on slow adapters on to these tokens, within a limit. */
const WINDOW = { seconds: 2, tokens: 8, longest: 10 };

export function setUpLive(monitor: Monitor): void {
  const parent = byId("charts");
  const time = (x: number) => `${fixed(x, 0)} s`;
  const line = (label: string) => [{ label }];
  const oneDecimal = (y: number) => fixed(y, 1);
  const whole = (y: number) => (Number.isInteger(y) ? String(y) : "");
  let ttftBars: Bar[] = [];
  let itlBars: Bar[] = [];
  const bound = (all: () => Bar[]) => (x: number) => {
    const bar = all()[x];
    if (!bar) return "";
    return bar.upper === Infinity ? "more" : `≤ ${seconds(bar.upper)}`;
  };

  const rate = lineChart(parent, { id: "chart-rate", title: "Tokens/s", value: rated, tick: rated, place: time, top: 1, wide: true }, line("Tokens/s"));
  const acceptance = lineChart(parent, { id: "chart-acceptance", title: "Acceptance rate", value: percent, tick: (y) => `${fixed(y * 100, 0)} %`, place: time, top: 1, fixed: true }, line("Acceptance rate"));
  const length = lineChart(parent, { id: "chart-length", title: "Mean acceptance length", value: (y) => fixed(y, 2), tick: oneDecimal, place: time, top: 2 }, line("Mean acceptance length"));
  const positions = barChart(
    parent,
    { id: "chart-positions", title: "Acceptance by draft position", value: percent, tick: (y) => `${fixed(y * 100, 0)} %`, place: String, top: 1, fixed: true },
    (x) => `--tint-${Math.min(x, TINTS - 1)}`,
  );
  const perStep = lineChart(parent, { id: "chart-step", title: "Tokens a step", value: (y) => fixed(y, 2), tick: oneDecimal, place: time, top: 2 }, line("Tokens a step"));
  const ttft = barChart(parent, { id: "chart-ttft", title: "Time to first token", value: (y) => `${y} requests`, tick: whole, place: bound(() => ttftBars), top: 2, room: 68 });
  const itl = barChart(parent, { id: "chart-itl", title: "Inter-token latency", value: (y) => `${y} steps`, tick: whole, place: bound(() => itlBars), top: 2, room: 68 });

  monitor.watch((history) => {
    const reading = history.at(-1)?.reading;
    const speculation = reading?.speculation;
    const at = history.map((sample) => sample.at);
    const rates = history.map((_, i) => rateAt(history, i));
    const over = (f: (sample: Sample) => number | null | undefined) => history.map((sample) => f(sample) ?? null);
    const drawn = (ys: (number | null)[]): [number[], (number | null)[]] => (ys.some((y) => y != null) ? [at, ys] : [[], []]);

    const latest = rated(rates.at(-1));
    rate.update(drawn(rates), latest, `${latest} now`);

    const accepted = percent(speculation?.acceptance_rate);
    acceptance.update(drawn(over((s) => s.reading.speculation?.acceptance_rate)), accepted, accepted);

    const mal = fixed(speculation?.mean_acceptance_length, 2);
    length.update(drawn(over((s) => s.reading.speculation?.mean_acceptance_length)), mal, mal);

    const each = speculation?.per_position_acceptance_rate ?? [];
    const spoken = each.map((share, i) => `${i}: ${percent(share)}`).join(", ");
    positions.update([each.map((_, i) => i), each], each.length > 0 ? `${each.length} positions` : "–", spoken || "nothing yet");

    const yielded = fixed(reading?.tokensPerStep, 2);
    perStep.update(drawn(over((s) => s.reading.tokensPerStep)), yielded, yielded);

    ttftBars = bars(reading?.timeToFirstToken);
    itlBars = bars(reading?.interTokenLatency);
    const ttftMean = seconds(mean(reading?.timeToFirstToken));
    const itlMean = seconds(mean(reading?.interTokenLatency));
    ttft.update(columns(ttftBars), `mean ${ttftMean}`, `mean ${ttftMean}, ${reading?.timeToFirstToken?.count ?? 0} requests`);
    itl.update(columns(itlBars), `mean ${itlMean}`, `mean ${itlMean}, ${reading?.interTokenLatency?.count ?? 0} steps`);
  });
}

/** Tokens a second over the last moments before a sample; `null` where there is nothing before it. */
function rateAt(history: readonly Sample[], i: number): number | null {
  const now = history[i]!;
  let then = i;
  for (; then > 0; then--) {
    const seconds = now.at - history[then]!.at;
    const tokens = now.reading.generationTokens - history[then]!.reading.generationTokens;
    if (seconds >= WINDOW.longest || (seconds >= WINDOW.seconds && tokens >= WINDOW.tokens)) break;
  }
  const before = history[then]!;
  const elapsed = now.at - before.at;
  return elapsed > 0 ? (now.reading.generationTokens - before.reading.generationTokens) / elapsed : null;
}

function columns(all: readonly Bar[]): [number[], number[]] {
  return [all.map((_, i) => i), all.map((bar) => bar.count)];
}
