/** Which speculation pays: several settings over the same prompts, on the loaded model. */
import { EmbergramError } from "./error.js";
import type { CallOptions } from "./llm.js";
import { counterValue, histogram, speculationStats, withRates, type SpeculationStats } from "./stats.js";
import type { Metric, Prompt, RequestOutput, SamplingParams, SpeculativeConfig } from "./types.js";

/** Options of {@link Llm.tune}. */
export interface TuneOptions extends CallOptions {
  /** How often each setting runs over all prompts; settings take turns. Default 1; 3 or more tell noise from gain. */
  rounds?: number;
  /** Told before each run and after the last. */
  onProgress?: (progress: TuneProgress) => void;
}

/** Where a tuning is. */
export interface TuneProgress {
  /** Runs done, the warm-up among them. */
  done: number;
  /** Runs in all. */
  total: number;
  /** The run that begins: a setting's label, `"warm-up"`, or `null` at the end. */
  label: string | null;
  /** Its round, from 1; 0 for the warm-up. */
  round: number;
}

/** What one setting did. Counts and seconds are sums over its rounds. */
export interface TuneRow extends SpeculationStats {
  /** The setting's short name, such as `K=5, lookup 2-4`, or `none`. */
  label: string;
  /** The setting; `null` is no speculation. */
  config: SpeculativeConfig | null;
  /** Seconds of decoding: in each round from the first token of any prompt to the last of all. */
  seconds: number;
  /** Tokens that came in that time. */
  tokens: number;
  /** The median of the rounds. */
  tokens_per_second: number;
  /** Each round's own. */
  tokens_per_second_by_round: number[];
  /** Steps of the engine, prefill among them. */
  steps: number;
}

/** What {@link Llm.tune} found. Plain JSON. */
export interface TuneResult {
  /** One for each setting, in the order given. */
  rows: TuneRow[];
  /** The setting to use; `null` is no speculation. */
  recommendation: SpeculativeConfig | null;
  /** Its label. */
  recommended: string;
  /** Why, in a sentence. */
  reason: string;
  /** Whether every setting gave the same tokens, as it must; `false` is worth a bug report. */
  same_tokens: boolean;
  /** Whether other requests ran meanwhile, whose steps and drafts are then counted too. */
  disturbed: boolean;
}

/** What tuning needs of a loaded model. */
export interface Tunable {
  readonly speculativeConfig: SpeculativeConfig | null;
  setSpeculativeConfig(config: SpeculativeConfig | null): Promise<void>;
  generate(prompts: readonly Prompt[], params: SamplingParams, options: CallOptions): Promise<RequestOutput[]>;
  getMetrics(): Promise<Metric[]>;
}

/** The least difference in tokens/s that counts as one, where rounds do not show how much they vary. */
const NOISE = 0.03;

/** Tokens of a warm-up: enough for the steps of decoding to have run. */
const WARM_UP_TOKENS = 8;

const running = new WeakSet<Tunable>();

/** See {@link Llm.tune}. */
export async function tune(
  llm: Tunable,
  prompts: readonly Prompt[],
  configs: readonly (SpeculativeConfig | null)[],
  params: SamplingParams,
  { rounds = 1, onProgress, signal }: TuneOptions,
): Promise<TuneResult> {
  if (prompts.length === 0) throw new EmbergramError("invalid_prompt", "tune needs at least one prompt");
  if (configs.length === 0) throw new EmbergramError("invalid_params", "tune needs at least one setting; null is no speculation");
  if (!Number.isInteger(rounds) || rounds < 1) {
    throw new EmbergramError("invalid_params", `rounds is ${rounds}, but must be a whole number, 1 or more`);
  }
  if (running.has(llm)) throw new EmbergramError("invalid_params", "this model is being tuned already; await that first");
  running.add(llm);
  const before = llm.speculativeConfig;
  try {
    // One seed for all runs: settings are compared over the same texts.
    const seeded = { ...params, seed: params.seed ?? Math.floor(Math.random() * 2 ** 32) };
    const result = await measure(llm, prompts, configs, seeded, rounds, onProgress, signal);
    await llm.setSpeculativeConfig(before);
    return result;
  } catch (error) {
    // A worker that died cannot be set back, and why it died says more.
    await llm.setSpeculativeConfig(before).catch(() => {});
    throw error;
  } finally {
    running.delete(llm);
  }
}

/** What one setting's run over all prompts gave. */
interface Run extends Timing {
  stats: SpeculationStats;
  steps: number;
  disturbed: boolean;
}

interface Timing {
  seconds: number;
  tokens: number;
}

async function measure(
  llm: Tunable,
  prompts: readonly Prompt[],
  configs: readonly (SpeculativeConfig | null)[],
  params: SamplingParams,
  rounds: number,
  onProgress: TuneOptions["onProgress"],
  signal: AbortSignal | undefined,
): Promise<TuneResult> {
  const total = 1 + configs.length * rounds;
  const labels = configs.map(labelOf);
  const call: CallOptions = signal ? { signal } : {};
  let done = 0;

  // After it all settings find the prompts in the prefix cache and the code compiled.
  onProgress?.({ done, total, label: "warm-up", round: 0 });
  await llm.setSpeculativeConfig(configs.find((config) => config !== null) ?? null);
  const few = Math.min(params.max_tokens ?? WARM_UP_TOKENS, WARM_UP_TOKENS);
  await llm.generate(prompts, { ...params, max_tokens: few, min_tokens: 0 }, call);
  done += 1;

  const runs: Run[][] = configs.map(() => []);
  let first: string | undefined;
  let same_tokens = true;
  let metrics = await llm.getMetrics();
  for (let round = 1; round <= rounds; round++) {
    const order = [...configs.keys()];
    // There and back, so that a machine that slows down does so for all.
    if (round % 2 === 0) order.reverse();
    for (const i of order) {
      onProgress?.({ done, total, label: labels[i]!, round });
      await llm.setSpeculativeConfig(configs[i]!);
      const earlier = await llm.getMetrics();
      const outputs = await llm.generate(prompts, params, call);
      metrics = await llm.getMetrics();
      runs[i]!.push(runOf(outputs, metrics, earlier));
      const tokens = JSON.stringify(outputs.map((o) => o.outputs.map((output) => output.token_ids)));
      same_tokens &&= tokens === (first ??= tokens);
      done += 1;
    }
  }
  onProgress?.({ done, total, label: null, round: rounds });

  const rows = configs.map((config, i) => rowOf(labels[i]!, config, runs[i]!));
  return { rows, ...recommend(rows), same_tokens, disturbed: runs.flat().some((run) => run.disturbed) };
}

function runOf(outputs: readonly RequestOutput[], after: readonly Metric[], before: readonly Metric[]): Run {
  const since = (value: (metrics: readonly Metric[]) => number | undefined) => (value(after) ?? 0) - (value(before) ?? 0);
  const generated = outputs.flatMap((o) => o.outputs).reduce((sum, output) => sum + output.token_ids.length, 0);
  return {
    ...decoding(outputs),
    stats: speculationStats(after, before) ?? none(),
    steps: since((metrics) => histogram(metrics, "vllm:iteration_tokens_total")?.count),
    disturbed: since((metrics) => counterValue(metrics, "vllm:generation_tokens")) !== generated,
  };
}

function none(): SpeculationStats {
  return withRates({ num_drafts: 0, num_draft_tokens: 0, num_accepted_tokens: 0, num_accepted_tokens_per_pos: [] });
}

/**
 * The time in which a batch decoded, and the tokens that came in it: from the step that gave the first token of all, whose
 * tokens do not count, to the last. What a prefix cache saves of a prefill is not in it.
 */
export function decoding(outputs: readonly RequestOutput[]): Timing {
  const all = outputs.flatMap((o) => o.outputs).filter((output) => output.metrics?.first_token_ts != null);
  if (all.length === 0) return { seconds: 0, tokens: 0 };
  const start = Math.min(...all.map((output) => output.metrics!.first_token_ts!));
  const end = Math.max(...all.map((output) => output.metrics!.last_token_ts!));
  const begun = all.filter((output) => output.metrics!.first_token_ts === start).length;
  return { seconds: end - start, tokens: all.reduce((sum, output) => sum + output.token_ids.length, 0) - begun };
}

function rowOf(label: string, config: SpeculativeConfig | null, runs: readonly Run[]): TuneRow {
  const sum = (value: (run: Run) => number | undefined) => runs.reduce((total, run) => total + (value(run) ?? 0), 0);
  const rates = runs.map(({ tokens, seconds }) => (seconds > 0 ? tokens / seconds : 0));
  // The engine's vector is as long as the largest K it ever had; a row shows its own K.
  const longest = Math.max(...runs.map((run) => run.stats.num_accepted_tokens_per_pos.length));
  const positions = config ? Math.min(longest, depth(config)) : 0;
  return {
    label, config,
    seconds: sum((run) => run.seconds),
    tokens: sum((run) => run.tokens),
    tokens_per_second: median(rates),
    tokens_per_second_by_round: rates,
    steps: sum((run) => run.steps),
    ...withRates({
      num_drafts: sum((run) => run.stats.num_drafts),
      num_draft_tokens: sum((run) => run.stats.num_draft_tokens),
      num_accepted_tokens: sum((run) => run.stats.num_accepted_tokens),
      num_accepted_tokens_per_pos: Array.from({ length: positions }, (_, i) =>
        sum((run) => run.stats.num_accepted_tokens_per_pos[i]),
      ),
    }),
  };
}

/** Most draft tokens that a step may have. */
function depth({ num_speculative_tokens: k, max_speculative_tokens: most = 8 }: SpeculativeConfig): number {
  return k === "auto" ? most : k;
}

type Recommendation = Pick<TuneResult, "recommendation" | "recommended" | "reason">;

/** The fastest setting, unless no speculation is as fast within noise. */
export function recommend(rows: readonly TuneRow[]): Recommendation {
  const best = rows.reduce((a, b) => (b.tokens_per_second > a.tokens_per_second ? b : a));
  const plain = rows.find((row) => row.config === null);
  const choose = (row: TuneRow, reason: string) => ({ recommendation: row.config, recommended: row.label, reason });
  const speed = (row: TuneRow) => `${row.tokens_per_second.toFixed(1)} tokens/s`;
  if (best.tokens_per_second === 0) {
    return choose(plain ?? best, "nothing was decoded after the first tokens, so there is nothing to compare; raise max_tokens");
  }
  if (!plain) {
    return choose(best, `${best.label} is the fastest of these at ${speed(best)}; add null to compare with no speculation`);
  }
  if (best.num_draft_tokens === 0 && best !== plain) {
    return choose(plain, `${best.label} was the fastest but never drafted a token, so its gain is noise; no speculation is simpler`);
  }
  if (best === plain) return choose(plain, `no speculation is the fastest at ${speed(plain)}`);
  const gain = best.tokens_per_second / plain.tokens_per_second - 1;
  const noise = Math.max(NOISE, spread(best), spread(plain));
  const percent = (part: number) => `${(100 * part).toFixed(1)} %`;
  if (gain <= noise) {
    return choose(
      plain,
      `${best.label} is ${percent(gain)} faster than no speculation, which is within the noise of ${percent(noise)}; ` +
        `no speculation is simpler`,
    );
  }
  return choose(
    best,
    `${best.label} is ${percent(gain)} faster than no speculation (${speed(best)} against ${speed(plain)}), ` +
      `more than the noise of ${percent(noise)}`,
  );
}

/** How far a row's rounds lie from its median at most, as a part of it. */
function spread({ tokens_per_second: middle, tokens_per_second_by_round: rates }: TuneRow): number {
  return middle > 0 ? Math.max(...rates.map((rate) => Math.abs(rate - middle))) / middle : 0;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** A setting's short name, such as `K=5, lookup 2-4` or `K=auto to 6, lookup 5`. */
export function labelOf(config: SpeculativeConfig | null): string {
  if (config === null) return "none";
  const { num_speculative_tokens: k, max_speculative_tokens: most, prompt_lookup_min: min, prompt_lookup_max: max } = config;
  const [from, to] = [min ?? max ?? 5, max ?? min ?? 5];
  const bound = most === undefined ? "" : ` to ${most}`;
  return `K=${k}${bound}, lookup ${from === to ? to : `${from}-${to}`}`;
}

/** A tuning as a text table for a terminal. */
export function formatTuneTable(result: TuneResult): string {
  const { rows, recommended, reason } = result;
  const plain = rows.find((row) => row.config === null)?.tokens_per_second;
  const percent = (part: number) => `${(100 * part).toFixed(0)}%`;
  const table = [
    ["setting", "seconds", "tokens", "tokens/s", "ratio", "steps", "drafts", "accepted", "rate", "length", "per position"],
    ...rows.map((row) => [
      row.label === recommended ? `${row.label} *` : row.label,
      row.seconds.toFixed(2),
      String(row.tokens),
      row.tokens_per_second.toFixed(1),
      plain ? (row.tokens_per_second / plain).toFixed(2) : "-",
      String(row.steps),
      String(row.num_drafts),
      `${row.num_accepted_tokens}/${row.num_draft_tokens}`,
      row.num_draft_tokens > 0 ? percent(row.acceptance_rate) : "-",
      row.num_drafts > 0 ? row.mean_acceptance_length.toFixed(2) : "-",
      row.num_drafts > 0 ? row.per_position_acceptance_rate.map(percent).join(" ") : "-",
    ]),
  ];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((cells) => cells[column]!.length)));
  const last = widths.length - 1;
  const line = (cells: string[]) =>
    cells
      .map((cell, i) => (i === 0 || i === last ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd();
  return [...table.map(line), "", `* ${reason}`].join("\n");
}
