/** What goes in and what comes out. Options keep vLLM's snake_case names; shapes are those of vLLM's Python objects. */

import type { ErrorCode } from "./error.js";

/** How to speculate, as vLLM's `speculative_config`. */
export interface SpeculativeConfig {
  /** The only one: look up the last tokens earlier in prompt and output. */
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

/** Progress of a load. `loaded` and `total` in bytes, `rate` in bytes per second. */
export interface LoadProgress {
  /** What is being done. */
  phase: LoadPhase;
  /** Bytes so far. */
  loaded: number;
  /** Bytes in all, where that is known. */
  total?: number;
  /** Bytes a second. */
  rate?: number;
  /** Whether the file is kept in this browser for the next load. */
  cached?: boolean;
}

/** Options of the engine, from vLLM's `EngineArgs`. */
export interface EngineOptions {
  /**
   * Most tokens of a prompt and its output together; the KV cache must hold as many. Default: what the model was trained for,
   * or what the KV cache holds.
   */
  max_model_len?: number;
  /** Most sequences in one step. Default 8. */
  max_num_seqs?: number;
  /** Most sequences that wait for their first step; a call with more is refused with `queue_full`. Default 16384. */
  max_num_waiting?: number;
  /** Most rows in one step, at least `max_num_seqs`. Default 64, or `max_num_seqs` if that is more. */
  max_num_batched_tokens?: number;
  /** Positions in a block of the KV cache: 8, 16, 32, 64 or 128. Default 16. */
  block_size?: number;
  /**
   * Most bytes for the KV cache, which are taken as its blocks come into use. Default: a quarter of a byte for each weight of the model,
   * from 256 MiB to 1 GiB.
   */
  kv_cache_memory_bytes?: number;
  /** How keys and values are kept; `"f16"` takes half of the memory, on either backend. Default `"f32"`. */
  kv_cache_dtype?: "f32" | "f16";
  /**
   * What products with quantised weights take activations as: `"full"`, f32; or `"fast"`, eight bits and a scale for each 32 of
   * them, which is several times as fast on the CPU, takes fewer instructions on a GPU, and changes logits a little. WebGPU adapters that
   * compute in software do not have `"fast"`: with `backend: "webgpu"` it is refused there, with `"auto"` it stays `"full"`. Default
   * `"full"`.
   */
  precision?: "full" | "fast";
  /** Whether prompts reuse the blocks of earlier prompts. Default true. */
  enable_prefix_caching?: boolean;
  /**
   * Whether a step is submitted to the GPU before the one before it has been read, where nothing but its token is still to come:
   * for sequences without speculation whose tokens the GPU samples. It changes no token. Default true.
   */
  async_scheduling?: boolean;
  /** Seed of requests that bring none. Default: a fresh random seed a request. */
  seed?: number;
  /** The `model_name` in metrics. Default: the model's own name. */
  served_model_name?: string;
  /** The chat template, as Jinja. Default: the file's. */
  chat_template?: string;
  /** What F32, F16 and BF16 matrices become while they load. Default: they stay as they are. */
  quantization?: "q8_0" | "q4_0" | null;
  /**
   * What a request samples with where it leaves a parameter out: `"auto"`, what the model recommends ({@link SamplingDefaults})
   * and else vLLM's defaults; `"vllm"`, vLLM's defaults alone. Default `"auto"`.
   */
  generation_config?: "auto" | "vllm";
  /** Speculation. Default: none. */
  speculative_config?: SpeculativeConfig | null;
}

/**
 * Parameters of a request, with vLLM's `SamplingParams` names, ranges and defaults. Where a model recommends another default
 * (`llm.model.defaults`), a request that leaves the parameter out takes that one.
 */
export interface SamplingParams {
  /** Sequences to generate, at most 128; sequence i samples with `seed + i`. Default 1. */
  n?: number;
  /** 0 is greedy. Default 1. */
  temperature?: number;
  /** Samples from this many most likely tokens; 0 or -1 is all. Default 0. */
  top_k?: number;
  /** Samples from the most likely tokens that hold this much probability. Default 1. */
  top_p?: number;
  /** Leaves out tokens less likely than this times the most likely one. Default 0. */
  min_p?: number;
  /** Seed of the noise. Default: that of the engine, or a fresh random one. */
  seed?: number | null;
  /** Divides positive logits of tokens in prompt and output, and multiplies negative ones. Above 0; default 1. */
  repetition_penalty?: number;
  /** Taken off the logits of tokens in the output. -2 to 2; default 0. */
  presence_penalty?: number;
  /** Taken off the logits of tokens in the output, for each time they occur. -2 to 2; default 0. */
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
  /** How many most likely tokens to report besides each token of the prompt but the first, 0 to 20. Default: no report. */
  prompt_logprobs?: number | null;
  /** The only tokens that may be chosen, at least one. Default: all. */
  allowed_token_ids?: number[] | null;
  /**
   * Words that the output does not have, as in vLLM: their last token is never chosen where the ones before it are there. Default:
   * none.
   */
  bad_words?: string[] | null;
  /**
   * Most tokens of the prompt: what is before its last so many is cut away. -1 keeps what leaves room for one token of output.
   * Default: nothing is cut away, and what is too long is an error.
   */
  truncate_prompt_tokens?: number | null;
  /** What the output must fit. Default: nothing. */
  structured_outputs?: StructuredOutputs | null;
  /**
   * A text that the output is likely to have much of, such as a file that is to be changed in one place: where the output
   * follows it, its tokens are drafts. No token is another. Default: none.
   */
  prediction?: string | null;
  /**
   * Functions that change the logits of each next token, one after the other, before penalties, temperature and all else: see
   * {@link LogitsProcessor}. Default: none.
   */
  logits_processors?: readonly LogitsProcessor[] | null;
}

/**
 * Changes the logits of a next token, in place or by what it returns. It gets the output's tokens so far, the logits of the whole
 * vocabulary, and the prompt's tokens, as vLLM's `logits_processors` do. Its result must depend on these alone: rows of drafts are shown to it
 * as well. The engine waits for it, and so do all other requests; a call of the same `Llm` inside of it would wait for ever.
 */
export type LogitsProcessor = (
  outputIds: Uint32Array, logits: Float32Array, promptIds: Uint32Array,
) => Float32Array | void | Promise<Float32Array | void>;

/**
 * What an output must fit, with the names of vLLM's `StructuredOutputsParams`: exactly one of the first six. The output ends where
 * it is complete. Tokens to which it leaves no choice take no step of their own.
 */
export interface StructuredOutputs {
  /** A JSON schema, or one as text. Keywords that are not known are refused by name. */
  json?: object | boolean | string | null;
  /** A regular expression that the whole output matches. */
  regex?: string | null;
  /** Texts, one of which is the output. */
  choice?: readonly string[] | null;
  /** A grammar in llguidance's variant of Lark, whose first rule is `start`. */
  grammar?: string | null;
  /** Any JSON object. */
  json_object?: true | null;
  /** Free text with parts that fit a schema. */
  structural_tag?: StructuralTag | string | null;
  /** With `json` and `json_object`: whether no white space is allowed between tokens of JSON. Default false. */
  disable_any_whitespace?: boolean;
  /** With `json` and `json_object`: a regular expression for the white space between tokens of JSON. */
  whitespace_pattern?: string | null;
}

/** Free text in which each trigger begins one of the structures that begin with it. */
export interface StructuralTag {
  /** Always that, where it is there. */
  type?: "structural_tag";
  /** What follows a trigger: the rest of `begin`, JSON of this schema, `end`. */
  structures: readonly { begin: string; schema: object | boolean; end: string }[];
  /** Texts, each the beginning of the `begin` of one structure or several. */
  triggers: readonly string[];
}

/**
 * The sampling parameters that a model recommends, out of a folder's `generation_config.json` or a GGUF's `general.sampling.*`,
 * as vLLM's `get_diff_sampling_param`. What a model does not speak of is absent.
 */
export type SamplingDefaults = Pick<
  SamplingParams, "temperature" | "top_k" | "top_p" | "min_p" | "repetition_penalty"
> & {
  /** The model's `max_new_tokens`. */
  max_tokens?: number;
};

/** What a chat's template gets beside the messages, with the names of vLLM's `LLM.chat`. */
export interface ChatTemplateOptions {
  /** The chat template for this call, as Jinja. Default: that of the load, or the model's. */
  chat_template?: string;
  /** Whether the prompt ends where the assistant begins to answer. Default true. */
  add_generation_prompt?: boolean;
  /**
   * Whether the prompt ends with the final message, for the model to continue; needs `add_generation_prompt: false`. Default
   * false.
   */
  continue_final_message?: boolean;
  /**
   * The tools that the model may call, in OpenAI's shape: `{ type: "function", function: { name, description, parameters } }`.
   * They reach the template with their keys in this order. What the model answers comes as text. Default: none.
   */
  tools?: readonly object[] | null;
  /** The documents that the model may refer to, such as `{ title, text }`. Default: none. */
  documents?: readonly object[] | null;
  /** Further variables of the template, such as `{ enable_thinking: false }`. Default: none. */
  chat_template_kwargs?: Readonly<Record<string, unknown>> | null;
}

/** A prompt as text or as token ids. */
export type Prompt = string | readonly number[] | Uint32Array;

/**
 * One turn of a conversation. Other keys, such as `name` or `tool_calls`, reach the model's template as they are; the
 * `arguments` of tool calls, which OpenAI has as JSON text, as objects.
 */
export interface ChatMessage {
  /** Who speaks; what roles there are is for the model's template to say. */
  role: "system" | "user" | "assistant" | "tool" | (string & {});
  /** What is said; empty where a message only calls tools. */
  content: string;
  [key: string]: unknown;
}

/**
 * Why an output ended: at a stop token or string, at a limit, by `abort`, or at an `error` of its own, which the output tells;
 * the other outputs go on. A lost device or a trap ends no output but rejects every call.
 */
export type FinishReason = "stop" | "length" | "abort" | "error";

/** What ended one output with `finish_reason: "error"`. */
export interface OutputError {
  /** `corrupted_logits`: the model gave NaN or an infinity, so that there is no next token. */
  code: ErrorCode;
  /** What was wrong, and what to do. */
  message: string;
}

/** How likely a token was by the raw logits. `rank` is 1 for the most likely. */
export interface TokenLogprob {
  /** The token. */
  token_id: number;
  /** Natural logarithm of its probability. */
  logprob: number;
  /** 1 for the most likely. */
  rank: number;
}

/** A request's speculation, in the fields that vLLM's server reports. */
export interface RequestSpeculation {
  /** 1 + accepted by steps: tokens that a step with a draft yields. 1 without steps. */
  mean_acceptance_length: number;
  /** Accepted by drafted tokens, 0 to 1. */
  draft_acceptance_rate: number;
  /** Steps by how many draft tokens they accepted, 0 to K. */
  acceptance_histogram: number[];
  /** Steps with draft tokens. */
  num_spec_steps: number;
  /** Draft tokens accepted, before the output was cut. */
  num_accepted_draft_tokens: number;
  /** Draft tokens scheduled. */
  num_draft_tokens: number;
  /** K. */
  num_spec_tokens: number;
}

/** A sequence's own metrics. Times in seconds, on the engine's clock. */
export interface RequestMetrics {
  /** Tokens of the prompt. */
  num_prompt_tokens: number;
  /** Those of them that the prefix cache had. */
  num_cached_tokens: number;
  /** Tokens of the output. */
  num_generation_tokens: number;
  /** Those of them to which `structured_outputs` left no choice, and which took no step of their own. */
  num_forced_tokens: number;
  /** Draft tokens out of `prediction` that were accepted. */
  num_accepted_prediction_tokens: number;
  /** Those that were not. */
  num_rejected_prediction_tokens: number;
  /** How often it was put back into the queue. */
  num_preemptions: number;
  /** When the request came. */
  arrival_time: number;
  /** When it was queued. */
  queued_ts: number;
  /** When it first had rows in a step; this and what follows is `null` if it never came to pass. */
  scheduled_ts: number | null;
  /** When its first token was there. */
  first_token_ts: number | null;
  /** When its last token was there. */
  last_token_ts: number | null;
  /** When it ended. */
  finished_time: number | null;
  /** From arrival to the first token. */
  first_token_latency: number | null;
  /** From queued to scheduled. */
  queue_time: number | null;
  /** From scheduled to the first token. */
  prefill_time: number | null;
  /** From the first token to the last. */
  decode_time: number | null;
  /** From scheduled to the last token. */
  inference_time: number | null;
  /** From arrival to the end. */
  e2e_time: number | null;
  /** `null` without speculation. */
  speculative_decoding: RequestSpeculation | null;
}

/** Parameters of {@link Llm.embed}, from vLLM's `PoolingParams`. */
export interface PoolingParams {
  /**
   * Which hidden states, after the model's last norm, become one: the last token's, or the mean of all tokens'. What a model was
   * trained for is better; of one that was trained to generate alone, `"mean"` mostly is. Default `"last"`, as in vLLM.
   */
  pooling?: "last" | "mean";
  /** Whether the embedding's length is made 1, so that a dot product is the cosine. Default true. */
  normalize?: boolean;
  /** How many values are kept, the first, for models that were trained for that (Matryoshka). Default: all. */
  dimensions?: number | null;
  /** Keeps the last so many tokens of a prompt; -1: as many as fit. Default: all. */
  truncate_prompt_tokens?: number | null;
}

/** What {@link Llm.embed} gives for a prompt. */
export interface EmbeddingOutput {
  /** Its text, where it was text. */
  prompt: string | null;
  /** Its tokens. */
  prompt_token_ids: number[];
  /** What came of it. */
  outputs: {
    /** `model.hidden_size` values, or `dimensions` of them. */
    embedding: Float32Array;
  };
  /** Its times; a server tells none. */
  metrics: RequestMetrics | null;
}

/** One of the `n` outputs of a prompt. */
export interface CompletionOutput {
  /** Which of the `n`, from 0. */
  index: number;
  /** The text, without what `stop` and `skip_special_tokens` leave out. */
  text: string;
  /** The tokens, a stop token among them. */
  token_ids: number[];
  /** For each token the chosen one and the most likely, when asked for; else `null`. */
  logprobs: TokenLogprob[][] | null;
  /** Why it ended. */
  finish_reason: FinishReason | null;
  /** Which of `stop_token_ids` or `stop` ended it, where one did. */
  stop_reason: number | string | null;
  /** What went wrong, with `finish_reason: "error"`. What came before it is there. */
  error: OutputError | null;
  /** Its own times, and how speculation went. */
  metrics: RequestMetrics | null;
}

/** What a prompt gave, as vLLM's `RequestOutput`. */
export interface RequestOutput {
  /** The prompt, where it was text. */
  prompt: string | null;
  /** The prompt's tokens. */
  prompt_token_ids: number[];
  /** One for each of `n`. */
  outputs: CompletionOutput[];
  /** With `prompt_logprobs` for each token of the prompt the token and the most likely, `null` for the first; else `null`. */
  prompt_logprobs: (TokenLogprob[] | null)[] | null;
  /** The first output's metrics. */
  metrics: RequestMetrics | null;
}

/** What one step added to an output. */
export interface Delta {
  /** Which of the `n` outputs. */
  index: number;
  /** New text, whole characters only. */
  text: string;
  /** New tokens; several when drafts were accepted. */
  token_ids: number[];
  /** For each token the place it had in its draft, from 0; `null` where no draft had it. */
  draft_positions: (number | null)[];
  /** For each token whether `structured_outputs` left no choice about it, so that it took no step of its own. */
  forced: boolean[];
  /** For each new token the chosen one and the most likely, when asked for; else `null`. */
  logprobs: TokenLogprob[][] | null;
  /** With the first delta of the first output, as in {@link RequestOutput}, when asked for. */
  prompt_logprobs?: (TokenLogprob[] | null)[];
  /** With the last delta of an output, why it ended. */
  finish_reason: FinishReason | null;
  /** With it, which of `stop_token_ids` or `stop` did, where one did. */
  stop_reason: number | string | null;
  /** With it, what went wrong, where it is `"error"`. */
  error: OutputError | null;
  /** With the last delta of an output. */
  metrics: RequestMetrics | null;
}

interface MetricBase {
  /** Its name, such as `vllm:generation_tokens`. */
  name: string;
  /** Its labels; metrics of one name differ in them. */
  labels: Record<string, string>;
}
/** How often something happened. */
export interface Counter extends MetricBase {
  /** Tells the shape. */
  type: "counter";
  /** How often, since the load or the last reset. */
  value: number;
}
/** What is the case now. */
export interface Gauge extends MetricBase {
  /** Tells the shape. */
  type: "gauge";
  /** What is the case now. */
  value: number;
}
/** One count for each draft position. */
export interface Vector extends MetricBase {
  /** Tells the shape. */
  type: "vector";
  /** The count at each position. */
  values: number[];
}
/** How observations spread. */
export interface Histogram extends MetricBase {
  /** Tells the shape. */
  type: "histogram";
  /** How many observations. */
  count: number;
  /** Their sum. */
  sum: number;
  /** Observations that did not exceed each upper bound. */
  buckets: Record<string, number>;
}
/** One metric, in the shape of vLLM's `LLM.get_metrics()`. */
export type Metric = Counter | Gauge | Vector | Histogram;

/** The adapter the engine runs on. */
export interface AdapterInfo {
  /** What computes on it. */
  backend: Backend;
  /** What the browser calls it. */
  name: string;
  /** Its maker. */
  vendor: string;
  /** Its family. */
  architecture: string;
  /** Whether it computes on the CPU. */
  software: boolean;
  /** Threads of the CPU backend. */
  threads?: number;
  /** The kernel that a WebGPU adapter computes wrongly, where that was found; on the CPU's, why the load did not take WebGPU. */
  wrong_kernel?: string;
}

/** The server of a connection, in the place of an adapter. */
export interface ServerInfo {
  /** Tells it from an adapter. */
  backend: "server";
  /** Its address. */
  name: string;
  /** Whom its model is owned by, as it says: `vllm`. */
  vendor: string;
  /** Nothing is known of it. */
  architecture: "";
  /** Nothing is known of it. */
  software: false;
  /** Nothing is known of it. */
  threads?: undefined;
}

/** What is known of a loaded model. */
export interface ModelInfo {
  /** `served_model_name`, or the file's own name for the model. */
  name: string;
  /** Most tokens of a prompt and its output together; `Infinity` where a server does not tell. */
  max_model_len: number;
  /** Tokens of the vocabulary; `Infinity` of a server. */
  vocab_size: number;
  /** Values of a hidden state, and so of an embedding; a server does not tell. */
  hidden_size?: number;
  /** Whether `chat` works without a `chat_template`: false also where the model's does not parse, which `chat` then tells. */
  has_chat_template: boolean;
  /** The source of its chat template, or of that for conversations with tools where it has two; `null` without. */
  chat_template: string | null;
  /** What it recommends to sample with; empty with `generation_config: "vllm"`. */
  defaults: SamplingDefaults;
  /** What products with quantised weights take activations as; a server does not tell. */
  precision?: "full" | "fast";
  /** What it runs on. */
  adapter: AdapterInfo | ServerInfo;
}

/** What a browser can run. */
export interface Support {
  /** What a load takes by itself; `null` where no model runs. */
  backend: Backend | null;
  /** What that computes on. */
  adapter: AdapterInfo | null;
  /** Whether there is WebGPU with an adapter. */
  webgpu: boolean;
  /** Why there is none, and what to do; `null` when there is. */
  reason: string | null;
  /** WebGPU's adapter. */
  webgpu_adapter: AdapterInfo | null;
  /** WebGPU's limits that decide over a model. */
  limits: { maxBufferSize: number; maxStorageBufferBindingSize: number; maxStorageBuffersPerShaderStage: number } | null;
  /** Bytes of the largest single tensor; the memory of a GPU is more than that, and not told to pages. */
  max_tensor_bytes: number;
  /** What the CPU backend finds. */
  cpu: CpuSupport;
}

/** What the CPU of this context offers. */
export interface CpuSupport {
  /** Whether WebAssembly has SIMD, without which it runs no model. */
  simd: boolean;
  /** Whether it has relaxed SIMD: fused multiply-adds. */
  relaxed_simd: boolean;
  /** Whether threads may share memory: a page must be cross-origin isolated for that. */
  shared_memory: boolean;
  /** Threads that a load takes by itself. */
  threads: number;
  /** What would make it faster; `null` where nothing would. */
  advice: string | null;
}

/** What computes: a GPU, or the CPU with SIMD. */
export type Backend = "webgpu" | "cpu";

/** Where a model is to run. */
export interface BackendOptions {
  /** `"auto"` takes a GPU where there is one, else the CPU. Default `"auto"`. */
  backend?: "auto" | Backend | undefined;
  /** Threads of the CPU backend, 1 to 64, where the page is cross-origin isolated; else it has one. Default: all cores but one, at most 8; of two cores both. */
  threads?: number | undefined;
}

/** What a model's headers tell. */
export interface InspectedModel {
  /** GGUF's name of the architecture, such as `qwen2`. */
  architecture: string;
  /** Weights; an embedding that is the output matrix too counts once. */
  parameters: number;
  /** Bytes of the weights on the GPU, with the `quantization` of the options. */
  weight_bytes: number;
  /** Bytes of the KV cache per token. */
  kv_bytes_per_token: number;
  /** Positions that the model was trained for. */
  context: number;
  /** The context that fits: positions, up to `context`, that the KV cache of the options holds. */
  max_model_len: number;
  /** Tokens of the vocabulary. */
  vocab_size: number;
}

/** What a load of a model takes, and whether it runs here; see `Llm.inspect`. */
export interface Inspection {
  /** What would run it here; `null` where nothing would. */
  backend: Backend | null;
  /**
   * Why it does not run here; `null` where it does. `no_webgpu`, `no_simd`, `adapter_too_small`, `unsupported_model`,
   * `unsupported_quantization`, `invalid_tensor`, `invalid_file`, `truncated_file`, or `invalid_config` for a `max_model_len`
   * that does not fit. The tokenizer is not looked at.
   */
  reason: {
    /** What kind of thing it is. */
    code: ErrorCode;
    /** What is wrong, and what to do. */
    message: string;
  } | null;
  /** What a load would compute on; `null` where there is nothing. */
  adapter: AdapterInfo | null;
  /** Bytes of all files that a load takes; `null` where the server does not tell. */
  download_bytes: number | null;
  /** What the headers tell; `null` where they cannot be read, or are those of no model that the engine knows. */
  model: InspectedModel | null;
}
