/** What one computes from metrics: whether speculation pays, values over time, quantiles. Pure functions. */
import type { Histogram, Metric } from "./types.js";

/** The speculation counters of a snapshot, or of the time between two, and the rates that follow from them. */
export interface SpeculationStats {
  /** Steps of a request that had draft tokens. */
  num_drafts: number;
  /** Draft tokens scheduled. */
  num_draft_tokens: number;
  /** Draft tokens accepted. */
  num_accepted_tokens: number;
  /** Drafts whose token at this position was accepted; as long as the largest K so far. */
  num_accepted_tokens_per_pos: number[];
  /** Accepted by drafted tokens, 0 to 1; 0 without draft tokens. */
  acceptance_rate: number;
  /** Tokens that a step with a draft yields on average, the model's own among them; 1 without drafts. */
  mean_acceptance_length: number;
  /** The part of the drafts that was accepted up to each position. */
  per_position_acceptance_rate: number[];
}

/**
 * How speculation went: since the load (or the last `resetMetrics`), or with `before` between two snapshots with no reset
 * in between. `null` if speculation had never been configured.
 *
 * @param metrics what `getMetrics()` gave
 * @param before what it gave earlier
 */
export function speculationStats(metrics: readonly Metric[], before: readonly Metric[] = []): SpeculationStats | null {
  const now = speculationCounts(metrics);
  if (!now) return null;
  const then = speculationCounts(before);
  const since = (value: number, earlier = 0) => Math.max(0, value - earlier);
  return withRates({
    num_drafts: since(now.num_drafts, then?.num_drafts),
    num_draft_tokens: since(now.num_draft_tokens, then?.num_draft_tokens),
    num_accepted_tokens: since(now.num_accepted_tokens, then?.num_accepted_tokens),
    num_accepted_tokens_per_pos: now.num_accepted_tokens_per_pos.map((value, i) =>
      since(value, then?.num_accepted_tokens_per_pos[i]),
    ),
  });
}

/** The four counters that speculation has. */
export type SpeculationCounts = Pick<
  SpeculationStats,
  "num_drafts" | "num_draft_tokens" | "num_accepted_tokens" | "num_accepted_tokens_per_pos"
>;

/** Counters with the rates that follow from them. */
export function withRates(counts: SpeculationCounts): SpeculationStats {
  const { num_drafts, num_draft_tokens, num_accepted_tokens, num_accepted_tokens_per_pos } = counts;
  return {
    ...counts,
    acceptance_rate: ratio(num_accepted_tokens, num_draft_tokens),
    mean_acceptance_length: 1 + ratio(num_accepted_tokens, num_drafts),
    per_position_acceptance_rate: num_accepted_tokens_per_pos.map((accepted) => ratio(accepted, num_drafts)),
  };
}

function speculationCounts(metrics: readonly Metric[]): SpeculationCounts | undefined {
  const perPosition = metrics.find((m) => m.name === "vllm:spec_decode_num_accepted_tokens_per_pos");
  const num_drafts = counterValue(metrics, "vllm:spec_decode_num_drafts");
  const num_draft_tokens = counterValue(metrics, "vllm:spec_decode_num_draft_tokens");
  const num_accepted_tokens = counterValue(metrics, "vllm:spec_decode_num_accepted_tokens");
  if (
    perPosition?.type !== "vector" || num_drafts === undefined || num_draft_tokens === undefined ||
    num_accepted_tokens === undefined
  ) {
    return undefined;
  }
  return { num_drafts, num_draft_tokens, num_accepted_tokens, num_accepted_tokens_per_pos: perPosition.values };
}

/** Labels that a metric must have. */
export type LabelFilter = Readonly<Record<string, string>>;

/**
 * The value of a counter, summed over its label sets as Prometheus' `sum` does; `undefined` if there is none of this name
 * and type.
 *
 * @example counterValue(metrics, "vllm:request_success", { finished_reason: "stop" })
 */
export function counterValue(metrics: readonly Metric[], name: string, labels: LabelFilter = {}): number | undefined {
  return sum(metrics, "counter", name, labels);
}

/** The value of a gauge, summed over its label sets; `undefined` if there is none of this name and type. */
export function gaugeValue(metrics: readonly Metric[], name: string, labels: LabelFilter = {}): number | undefined {
  return sum(metrics, "gauge", name, labels);
}

/** The first histogram of this name and these labels. */
export function histogram(metrics: readonly Metric[], name: string, labels: LabelFilter = {}): Histogram | undefined {
  return metrics.find((m): m is Histogram => m.type === "histogram" && m.name === name && hasLabels(m, labels));
}

/** What a histogram observed after `before`, an earlier state of it. */
export function histogramSince(after: Histogram, before: Histogram | undefined): Histogram {
  if (!before) return after;
  const buckets = Object.fromEntries(
    Object.entries(after.buckets).map(([bound, count]) => [bound, Math.max(0, count - (before.buckets[bound] ?? 0))]),
  );
  return { ...after, count: Math.max(0, after.count - before.count), sum: Math.max(0, after.sum - before.sum), buckets };
}

/** The mean of what a histogram observed; `null` without observations. */
export function histogramMean(histogram: Histogram): number | null {
  return histogram.count === 0 ? null : histogram.sum / histogram.count;
}

/**
 * An estimate of a quantile, as Prometheus' `histogram_quantile` makes it: even spread within a bucket, the first bucket
 * starts at 0, and what lies beyond the last bound counts as that bound. `null` without observations.
 *
 * @param quantile 0 to 1
 */
export function histogramQuantile(histogram: Histogram, quantile: number): number | null {
  const { count, buckets } = histogram;
  if (count === 0 || !(quantile >= 0 && quantile <= 1)) return null;
  const rank = quantile * count;
  let lower = 0;
  let below = 0;
  for (const [bound, atMost] of sortedBuckets(buckets)) {
    // An empty bucket holds no quantile; the smallest one is in the first that holds anything.
    if (atMost >= rank && atMost > below) {
      return Number.isFinite(bound) ? lower + ((bound - lower) * (rank - below)) / (atMost - below) : lower;
    }
    lower = bound;
    below = atMost;
  }
  return lower;
}

/** The buckets by rising upper bound, the last infinite. An object's own order is not that: whole numbers come first. */
export function sortedBuckets(buckets: Readonly<Record<string, number>>): [bound: number, atMost: number][] {
  return Object.entries(buckets)
    .map(([bound, count]): [number, number] => [bound === "+Inf" ? Infinity : Number(bound), count])
    .sort(([a], [b]) => a - b);
}

function sum(
  metrics: readonly Metric[],
  type: "counter" | "gauge",
  name: string,
  labels: LabelFilter,
): number | undefined {
  let total: number | undefined;
  for (const metric of metrics) {
    if (metric.type === type && metric.name === name && hasLabels(metric, labels)) total = (total ?? 0) + metric.value;
  }
  return total;
}

function hasLabels(metric: Metric, labels: LabelFilter): boolean {
  return Object.entries(labels).every(([key, value]) => metric.labels[key] === value);
}

/** `part / whole`, or 0 of nothing. */
export function ratio(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}
