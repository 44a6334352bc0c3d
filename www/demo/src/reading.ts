/** What the charts show, computed from `getMetrics()`. */
import {
  counterValue, gaugeValue, histogram, histogramMean, sortedBuckets, speculationStats, type Histogram, type Metric,
  type SpeculationStats,
} from "embergram";

/** One moment's metrics, as far as the page shows them. What is not known yet is `null`. */
export interface Reading {
  generationTokens: number;
  /** `null` before the first draft. */
  speculation: SpeculationStats | null;
  timeToFirstToken: Histogram | undefined;
  interTokenLatency: Histogram | undefined;
  /** Tokens after a request's first by the steps that yielded them. */
  tokensPerStep: number | null;
  gpuMemoryBytes: number | undefined;
  wasmHeapBytes: number | undefined;
  /** 0 to 1. */
  kvCacheUsage: number | undefined;
}

export function read(metrics: readonly Metric[]): Reading {
  const generationTokens = counterValue(metrics, "vllm:generation_tokens") ?? 0;
  const speculation = speculationStats(metrics);
  const timeToFirstToken = histogram(metrics, "vllm:time_to_first_token_seconds");
  const interTokenLatency = histogram(metrics, "vllm:inter_token_latency_seconds");
  const steps = interTokenLatency?.count ?? 0;
  return {
    generationTokens,
    speculation: speculation && speculation.num_drafts > 0 ? speculation : null,
    timeToFirstToken,
    interTokenLatency,
    tokensPerStep: steps > 0 ? (generationTokens - (timeToFirstToken?.count ?? 0)) / steps : null,
    gpuMemoryBytes: gaugeValue(metrics, "embergram:gpu_memory_bytes"),
    wasmHeapBytes: gaugeValue(metrics, "embergram:wasm_heap_bytes"),
    kvCacheUsage: gaugeValue(metrics, "vllm:kv_cache_usage_perc"),
  };
}

export function mean(of: Histogram | undefined): number | null {
  return of ? histogramMean(of) : null;
}

/** One bar of a histogram: upper bound (`Infinity` for the last) and observations in it alone. */
export interface Bar {
  upper: number;
  count: number;
}

/** A histogram's bars from the first to the last that is not empty. */
export function bars(of: Histogram | undefined): Bar[] {
  let before = 0;
  const all = sortedBuckets(of?.buckets ?? {}).map(([upper, atMost]) => {
    const count = atMost - before;
    before = atMost;
    return { upper, count };
  });
  const filled = (bar: Bar) => bar.count > 0;
  return all.slice(Math.max(all.findIndex(filled), 0), all.findLastIndex(filled) + 1);
}
