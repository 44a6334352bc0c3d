/** Prometheus' text exposition as the JSON of vLLM's `LLM.get_metrics()`. */
import type { Histogram, Metric, Vector } from "../types.js";

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** The one counter that vLLM tells as a vector. */
const VECTOR = "vllm:spec_decode_num_accepted_tokens_per_pos";
const UNESCAPED: Readonly<Record<string, string>> = { n: "\n", '"': '"', "\\": "\\" };

/** The metrics of an engine, whose names have a prefix with a colon; those of the server's process are left out. */
export function readExposition(text: string): Metric[] {
  const metrics: Metric[] = [];
  let family = { name: "", type: "" };
  let samples: Sample[] = [];
  const end = () => {
    if (family.name.includes(":")) metrics.push(...metricsOf(family.name, family.type, samples));
    samples = [];
  };
  for (const line of text.split("\n")) {
    const [, name, type] = /^# TYPE (\S+) (\S+)/.exec(line) ?? [];
    if (name !== undefined) {
      end();
      family = { name, type: type! };
    } else if (line !== "" && !line.startsWith("#")) {
      const sample = sampleOf(line);
      if (sample) samples.push(sample);
    }
  }
  end();
  return metrics;
}

function sampleOf(line: string): Sample | undefined {
  const [, name, labels = "", value] = /^([^\s{]+)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
  if (name === undefined) return undefined;
  const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key, text!.replace(/\\(.)/g, (_, c: string) => UNESCAPED[c] ?? c)]);
  const number = value === "+Inf" ? Infinity : value === "-Inf" ? -Infinity : Number(value);
  return { name, labels: Object.fromEntries(pairs) as Record<string, string>, value: number };
}

function metricsOf(family: string, type: string, samples: readonly Sample[]): Metric[] {
  // A client of Prometheus' tells when a counter began.
  if (family.endsWith("_created")) return [];
  const name = type === "counter" ? family.replace(/_total$/, "") : family;
  if (name === VECTOR) return bySeries(samples, "position", name, (labels): Vector => ({ name, labels, type: "vector", values: [] }), (vector, { labels, value }) => {
    vector.values[Number(labels["position"])] = value;
  });
  if (type === "histogram") return bySeries(samples, "le", name, (labels): Histogram => ({ name, labels, type: "histogram", count: 0, sum: 0, buckets: {} }), (histogram, { name: own, labels, value }) => {
    if (own === `${name}_count`) histogram.count = value;
    else if (own === `${name}_sum`) histogram.sum = value;
    else if (own === `${name}_bucket`) histogram.buckets[labels["le"]!] = value;
  });
  if (type !== "counter" && type !== "gauge") return [];
  return samples.map(({ labels, value }) => ({ name, labels, type, value }));
}

/** One metric for each set of labels, but for one label, which tells its parts apart. */
function bySeries<M extends Metric>(
  samples: readonly Sample[],
  part: string,
  name: string,
  make: (labels: Record<string, string>) => M,
  add: (metric: M, sample: Sample) => void,
): M[] {
  const series = new Map<string, M>();
  for (const sample of samples) {
    const { [part]: _, ...labels } = sample.labels;
    const key = JSON.stringify(Object.entries(labels).sort());
    let metric = series.get(key);
    if (!metric) series.set(key, (metric = make(labels)));
    if (!sample.name.startsWith(`${name}_created`)) add(metric, sample);
  }
  return [...series.values()];
}
