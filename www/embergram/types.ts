/** What goes in and what comes out. Options keep vLLM's snake_case names; shapes are those of vLLM's Python objects. */

/** How to speculate, as vLLM's `speculative_config`. */
export interface SpeculativeConfig {
  method: "ngram";
  /** Most draft tokens in a step (K), or `"auto"`: as many as pay, down to none. */
  num_speculative_tokens: number | "auto";
  /** Upper bound of `"auto"`. Default 8. */
  max_speculative_tokens?: number;
  /** Longest n-gram to look up. With neither bound given both are 5, with one the other equals it. */
  prompt_lookup_max?: number;
  /** Shortest n-gram to look up. */
  prompt_lookup_min?: number;
}

/** Where a load is: opening the GPU, bringing the bytes, building tokenizer and pipelines, ready. */
export type LoadPhase = "gpu" | "download" | "cache" | "file" | "build" | "ready";

/** Progress of a load. `loaded` and `total` in bytes, `rate` in bytes a second. */
export interface LoadProgress {
  phase: LoadPhase;
  loaded: number;
  total?: number;
  rate?: number;
}

/** Options of the engine, from vLLM's `EngineArgs`. */
export interface EngineOptions {
  /** Most tokens of a prompt and its output together. Default: what the model was trained for. */
  max_model_len?: number;
  /** Most sequences in one step. Default 8. */
  max_num_seqs?: number;
  /** Most rows in one step, at least `max_num_seqs`. */
  max_num_batched_tokens?: number;
  /** Positions in a block of the KV cache: 8, 16, 32, 64 or 128. Default 16. */
  block_size?: number;
  /** Bytes for the KV cache. */
  kv_cache_memory_bytes?: number;
  /** Whether prompts reuse the blocks of earlier prompts. Default true. */
  enable_prefix_caching?: boolean;
  /** Seed of requests that bring none. Default: a fresh random seed a request. */
  seed?: number;
  /** The `model_name` in metrics. Default: the model's own name. */
  served_model_name?: string;
  /** Speculation. Default: none. */
  speculative_config?: SpeculativeConfig | null;
}

/** Parameters of a request, with vLLM's `SamplingParams` names, ranges and defaults. */
export interface SamplingParams {
  /** Sequences to generate; sequence i samples with `seed + i`. Default 1. */
  n?: number;
  /** 0 is greedy. Default 1. */
  temperature?: number;
  /** Samples from this many most likely tokens; 0 or -1 is all. Default 0. */
  top_k?: number;
  /** Samples from the most likely tokens that hold this much probability. Default 1. */
  top_p?: number;
  /** Leaves out tokens less likely than this times the most likely one. Default 0. */
  min_p?: number;
  seed?: number | null;
  repetition_penalty?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  /** Added to the logits of these token ids; each -100 to 100. */
  logit_bias?: Record<number, number> | null;
  /** How many most likely tokens to report besides the chosen one, 0 to 20. */
  logprobs?: number | null;
  /** Most tokens to generate; `null` is up to `max_model_len`. Default 16. */
  max_tokens?: number | null;
  /** Tokens to generate before a stop token may come. Default 0. */
  min_tokens?: number;
  /** Strings that end the output. */
  stop?: string | string[] | null;
  /** Tokens that end the output. */
  stop_token_ids?: number[] | null;
  /** Whether to go on after the end-of-sequence token. Default false. */
  ignore_eos?: boolean;
  /** Whether the text keeps the stop string that ended it. Default false. */
  include_stop_str_in_output?: boolean;
  /** Whether the text leaves special tokens out. Default true. */
  skip_special_tokens?: boolean;
}

/** A prompt as text or as token ids. */
export type Prompt = string | readonly number[] | Uint32Array;

/** One turn of a conversation. */
export interface ChatMessage {
  role: "system" | "user" | "assistant" | (string & {});
  content: string;
}

export type FinishReason = "stop" | "length" | "abort" | "error";

/** How likely a token was by the raw logits. `rank` is 1 for the most likely. */
export interface TokenLogprob {
  token_id: number;
  logprob: number;
  rank: number;
}

/** A request's speculation, in the fields that vLLM's server reports. */
export interface RequestSpeculation {
  mean_acceptance_length: number;
  draft_acceptance_rate: number;
  /** Steps by how many draft tokens they accepted, 0 to K. */
  acceptance_histogram: number[];
  num_spec_steps: number;
  num_accepted_draft_tokens: number;
  num_draft_tokens: number;
  num_spec_tokens: number;
}

/** A sequence's own metrics. Times in seconds, on the engine's clock. */
export interface RequestMetrics {
  num_generation_tokens: number;
  num_preemptions: number;
  arrival_time: number;
  queued_ts: number;
  scheduled_ts: number | null;
  first_token_ts: number | null;
  last_token_ts: number | null;
  finished_time: number | null;
  first_token_latency: number | null;
  queue_time: number | null;
  prefill_time: number | null;
  decode_time: number | null;
  inference_time: number | null;
  e2e_time: number | null;
  /** `null` without speculation. */
  speculative_decoding: RequestSpeculation | null;
}

/** One of the `n` outputs of a prompt. */
export interface CompletionOutput {
  index: number;
  text: string;
  token_ids: number[];
  /** For each token the chosen one and the most likely, when asked for; else `null`. */
  logprobs: TokenLogprob[][] | null;
  finish_reason: FinishReason | null;
  metrics: RequestMetrics | null;
}

/** What a prompt gave, as vLLM's `RequestOutput`. */
export interface RequestOutput {
  /** The prompt, where it was text. */
  prompt: string | null;
  prompt_token_ids: number[];
  outputs: CompletionOutput[];
  /** The first output's metrics. */
  metrics: RequestMetrics | null;
}

/** What one step added to an output. */
export interface Delta {
  /** Which of the `n` outputs. */
  index: number;
  /** New text, whole characters only. */
  text: string;
  token_ids: number[];
  /** For each token the place it had in its draft, from 0; `null` where no draft had it. */
  draft_positions: (number | null)[];
  logprobs: TokenLogprob[][] | null;
  finish_reason: FinishReason | null;
  /** With the last delta of an output. */
  metrics: RequestMetrics | null;
}

interface MetricBase {
  name: string;
  labels: Record<string, string>;
}
export interface Counter extends MetricBase {
  type: "counter";
  value: number;
}
export interface Gauge extends MetricBase {
  type: "gauge";
  value: number;
}
/** One count for each draft position. */
export interface Vector extends MetricBase {
  type: "vector";
  values: number[];
}
export interface Histogram extends MetricBase {
  type: "histogram";
  count: number;
  sum: number;
  /** Observations that did not exceed each upper bound. */
  buckets: Record<string, number>;
}
/** One metric, in the shape of vLLM's `LLM.get_metrics()`. */
export type Metric = Counter | Gauge | Vector | Histogram;

/** The adapter the engine runs on. */
export interface AdapterInfo {
  name: string;
  vendor: string;
  architecture: string;
  /** Whether it computes on the CPU: right, and slow. */
  software: boolean;
}

/** What is known of a loaded model. */
export interface ModelInfo {
  name: string;
  max_model_len: number;
  vocab_size: number;
  has_chat_template: boolean;
  adapter: AdapterInfo;
}

/** What a browser can run. */
export interface Support {
  /** Whether a model can be loaded here. */
  webgpu: boolean;
  /** Why not, and what to do; `null` when it can. */
  reason: string | null;
  adapter: AdapterInfo | null;
  limits: { maxBufferSize: number; maxStorageBufferBindingSize: number; maxStorageBuffersPerShaderStage: number } | null;
  /** Bytes of the largest single tensor; the memory of a GPU is more than that, and not told to pages. */
  max_tensor_bytes: number;
}
