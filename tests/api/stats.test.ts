// Rates and quantiles against what vLLM recorded and what Prometheus computes.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  counterValue, gaugeValue, histogram, histogramMean, histogramQuantile, histogramSince, sortedBuckets, speculationStats,
} from "../../www/embergram/stats.js";
import type { Histogram, Metric } from "../../www/embergram/types.js";

interface Recorded {
  K: number;
  prompts: { steps: { draft: number[]; sampled: number[] }[] }[];
  metrics: (Omit<Metric, "type"> & { type: string })[];
}
const golden = JSON.parse(readFileSync(new URL("../golden/vllm_golden.json", import.meta.url), "utf8"));
const runs = Object.entries(golden.runs as Record<string, Recorded>);
// Our JSON has the recording's class names in lower case.
const metricsOf = (run: Recorded) => run.metrics.map((m) => ({ ...m, type: m.type.toLowerCase() }) as Metric);

describe.each(runs)("vLLM's recording with K = %s", (k, run) => {
  const steps = run.prompts.flatMap((p) => p.steps).filter((step) => step.draft.length > 0);
  const accepted = steps.map((step) => step.sampled.length - 1);
  const metrics = metricsOf(run);

  test("the rates are those of the recorded steps", () => {
    const stats = speculationStats(metrics);
    if (k === "0") return expect(stats).toBeNull();
    const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
    const drafted = sum(steps.map((step) => step.draft.length));
    const perPosition = Array.from({ length: run.K }, (_, i) => accepted.filter((n) => n > i).length);
    expect(stats).toEqual({
      num_drafts: steps.length,
      num_draft_tokens: drafted,
      num_accepted_tokens: sum(accepted),
      num_accepted_tokens_per_pos: perPosition,
      acceptance_rate: sum(accepted) / drafted,
      mean_acceptance_length: 1 + sum(accepted) / steps.length,
      per_position_acceptance_rate: perPosition.map((n) => n / steps.length),
    });
  });

  test("counters and histograms are found by name and labels", () => {
    expect(counterValue(metrics, "vllm:request_success")).toBe(run.prompts.length);
    expect(counterValue(metrics, "vllm:request_success", { finished_reason: "abort" })).toBe(0);
    expect(counterValue(metrics, "vllm:num_requests_running")).toBeUndefined();
    expect(gaugeValue(metrics, "vllm:num_requests_running")).toBe(0);
    expect(counterValue(metrics, "vllm:request_succes")).toBeUndefined();
    const prompts = histogram(metrics, "vllm:request_prompt_tokens")!;
    expect(histogramMean(prompts)).toBe(prompts.sum / run.prompts.length);
  });
});

function snapshot(drafts: number, draftTokens: number, accepted: number, perPosition: number[]): Metric[] {
  const labels = { model_name: "m", engine: "0" };
  const counter = (name: string, value: number): Metric => ({ type: "counter", name: `vllm:spec_decode_${name}`, labels, value });
  return [
    counter("num_drafts", drafts), counter("num_draft_tokens", draftTokens), counter("num_accepted_tokens", accepted),
    { type: "vector", name: "vllm:spec_decode_num_accepted_tokens_per_pos", labels, values: perPosition },
  ];
}

test("the difference of two snapshots, also where K grew in between", () => {
  // The Rust twin's test has the same numbers.
  const stats = speculationStats(snapshot(3, 10, 3, [2, 1, 0, 0]), snapshot(1, 2, 2, [1, 1]))!;
  expect(stats).toMatchObject({ num_drafts: 2, num_draft_tokens: 8, num_accepted_tokens: 1 });
  expect(stats.acceptance_rate).toBe(0.125);
  expect(stats.mean_acceptance_length).toBe(1.5);
  expect(stats.per_position_acceptance_rate).toEqual([0.5, 0, 0, 0]);
});

test("before speculation was configured counts as nothing, and nothing drafted is no division", () => {
  expect(speculationStats([])).toBeNull();
  expect(speculationStats([], snapshot(1, 1, 1, [1]))).toBeNull();
  expect(speculationStats(snapshot(1, 2, 2, [1, 1]), [])!.mean_acceptance_length).toBe(3);
  const none = speculationStats(snapshot(0, 0, 0, [0]))!;
  expect([none.acceptance_rate, none.mean_acceptance_length, none.per_position_acceptance_rate]).toEqual([0, 1, [0]]);
});

describe("quantiles", () => {
  // `{ "1": … }` sorts before `{ "0.5": … }` in a JS object: order must not come from there.
  const of = (buckets: Record<string, number>, sum = 0): Histogram => ({
    type: "histogram", name: "h", labels: {}, count: buckets["+Inf"]!, sum, buckets,
  });
  const h = of({ "0.5": 2, "1": 6, "+Inf": 10, "2.0": 8 });

  test("are read by rising bound", () => {
    expect(sortedBuckets(h.buckets).map(([bound]) => bound)).toEqual([0.5, 1, 2, Infinity]);
  });
  test.each([[0, 0], [0.1, 0.25], [0.2, 0.5], [0.5, 0.875], [0.6, 1], [0.8, 2], [0.95, 2], [1, 2]])(
    "%d is %d, as histogram_quantile gives it", (quantile, value) => {
      expect(histogramQuantile(h, quantile)).toBeCloseTo(value, 12);
    },
  );
  test("skip empty buckets", () => {
    expect(histogramQuantile(of({ "1.0": 0, "2.0": 4, "+Inf": 4 }), 0)).toBe(1);
    expect(histogramQuantile(of({ "1.0": 0, "2.0": 0, "+Inf": 4 }), 0.5)).toBe(2);
  });
  test("of nothing are null", () => {
    const empty = of({ "1.0": 0, "+Inf": 0 });
    expect([histogramQuantile(empty, 0.5), histogramMean(empty), histogramQuantile(h, 1.5)]).toEqual([null, null, null]);
  });
  test("of the time between two states", () => {
    const between = histogramSince(h, of({ "0.5": 2, "1": 2, "2.0": 2, "+Inf": 2 }));
    expect(between).toMatchObject({ count: 8, buckets: { "0.5": 0, "1": 4, "2.0": 6, "+Inf": 8 } });
    expect(histogramQuantile(between, 0.5)).toBe(1);
    expect(histogramSince(h, undefined)).toBe(h);
  });
});
