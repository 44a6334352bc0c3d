/**
 * OpenAI's objects: what `chat.completions.create` and `completions.create` take and give. Answers have vLLM's further fields too,
 * `null` where there is nothing to say.
 */
import type { CallOptions } from "../llm.js";
import type { ChatCompletionPredictionContent, PredictionDetails } from "./prediction.js";
import type { MessageDelta, ToolCall, WholeMessage } from "./tools/index.js";
import type { ResponseFormat } from "./structured.js";
import type { ChatTemplateOptions, RequestSpeculation, SamplingParams } from "../types.js";

export type { ChatCompletionPredictionContent, PredictionDetails } from "./prediction.js";
export type { JsonSchemaFormat, ResponseFormat } from "./structured.js";
export type { MessageDelta, ToolCall, ToolCallDelta, WholeMessage } from "./tools/index.js";

/**
 * Parameters both doors share: OpenAI's, and those that vLLM's server takes beside them. As there, a model's own sampling
 * defaults (`llm.model.defaults`) stand for those that are left out.
 */
export interface CreateParams {
  /** Echoed in the answer; the loaded model answers. Default: its name. */
  model?: string | undefined;
  /** Choices for each prompt. Default 1. */
  n?: number | null | undefined;
  /** Most tokens to generate. Default: in a chat the model's own, or else the room that is left in `max_model_len`; of a completion 16. */
  max_tokens?: number | null | undefined;
  /** 0 is greedy. Default 1. */
  temperature?: number | null | undefined;
  /** Samples from the most likely tokens that hold this much probability. Default 1. */
  top_p?: number | null | undefined;
  /** Taken off the logits of tokens in the output. -2 to 2; default 0. */
  presence_penalty?: number | null | undefined;
  /** Taken off the logits of tokens in the output, for each time they occur. -2 to 2; default 0. */
  frequency_penalty?: number | null | undefined;
  /** Added to the logits of these token ids; each -100 to 100. */
  logit_bias?: Record<string, number> | null | undefined;
  /** Choice i samples with `seed + i`. Default: the engine's, or a fresh one. */
  seed?: number | null | undefined;
  /** Strings that end the output. */
  stop?: string | string[] | null | undefined;
  /** With `stream: true` only. */
  stream_options?: StreamOptions | null | undefined;
  /** Taken and not used: there is no server to tell. */
  user?: string | undefined;
  /** vLLM's: samples from this many most likely tokens. Default all. */
  top_k?: SamplingParams["top_k"] | null;
  /** vLLM's: leaves out tokens less likely than this times the most likely one. Default 0. */
  min_p?: SamplingParams["min_p"] | null;
  /** vLLM's: divides positive logits of tokens in prompt and output, and multiplies negative ones. Default 1. */
  repetition_penalty?: SamplingParams["repetition_penalty"] | null;
  /** vLLM's: tokens to generate before a stop token may come. Default 0. */
  min_tokens?: SamplingParams["min_tokens"] | null;
  /** vLLM's: tokens that end the output. */
  stop_token_ids?: SamplingParams["stop_token_ids"];
  /** vLLM's: whether to go on after the end-of-sequence token. Default false. */
  ignore_eos?: SamplingParams["ignore_eos"] | null;
  /** vLLM's: whether the text keeps the stop string that ended it. Default false. */
  include_stop_str_in_output?: SamplingParams["include_stop_str_in_output"] | null;
  /** vLLM's: whether the text leaves special tokens out. Default true. */
  skip_special_tokens?: SamplingParams["skip_special_tokens"] | null;
  /** vLLM's: whether the answer begins with the prompt, or in a chat with the message that it continues. Default false. */
  echo?: boolean | null;
  /** vLLM's: how many most likely tokens to report besides each token of the prompt, 0 to 20. Default: no report. */
  prompt_logprobs?: number | null;
  /** vLLM's: the only tokens that may be chosen. Default: all. */
  allowed_token_ids?: number[] | null;
  /** vLLM's: words that the output does not have. Default: none. */
  bad_words?: string[] | null;
  /** vLLM's: most tokens of the prompt, of which the rest is cut away; -1 is what fits. Default: none. */
  truncate_prompt_tokens?: number | null;
  /** vLLM's: what of the prompt is cut away. Default `"left"`, its beginning. */
  truncation_side?: "left" | "right" | null;
  /** vLLM's: whether the prompt gets special tokens, such as BOS. Default: in a chat false, since its template has them. */
  add_special_tokens?: boolean;
  /** vLLM's: whether the answer tells the token ids of prompt and output. Default false. */
  return_token_ids?: boolean | null;
  /** vLLM's: whether log-probabilities name tokens by their ids, `token_id:5`. Default false. */
  return_tokens_as_token_ids?: boolean | null;
  /** vLLM's: the last part of the answer's id. */
  request_id?: string;
  /** vLLM's: what the answer must fit. Default: nothing. */
  structured_outputs?: SamplingParams["structured_outputs"];
}

/** What a stream tells beside the text. */
export interface StreamOptions {
  /** Whether a last chunk, without choices, tells the usage. Default false. */
  include_usage?: boolean | undefined;
  /** vLLM's: whether each chunk tells the usage so far; needs `include_usage`. Default false. */
  continuous_usage_stats?: boolean | undefined;
}

/** A part of a message. */
export interface TextPart {
  type: "text";
  text: string;
}

/** One turn of a conversation. An assistant's message of an earlier answer may be passed back as it is. */
export interface ChatCompletionMessageParam {
  role: "system" | "developer" | "user" | "assistant" | "tool" | (string & {});
  /** A text, or parts of one, which are joined; `null` where an assistant's message only calls tools. */
  content?: string | readonly TextPart[] | null;
  /** The calls of an assistant's message. */
  tool_calls?: readonly ToolCall[];
  /** Which call the message of a tool answers. */
  tool_call_id?: string;
  /** Part of an assistant's message; here always `null`. */
  refusal?: null;
  /** Other keys, such as `name`, reach the model's template as they are. */
  [key: string]: unknown;
}

/** A function that the model may call. */
export interface FunctionTool {
  type: "function";
  function: {
    name: string;
    description?: string;
    /** The JSON schema of its arguments. */
    parameters?: Record<string, unknown>;
    /** Arguments of calls that must be made always fit the schema: `true` asks for no more. */
    strict?: boolean | null;
  };
}

/** What `chat.completions.create` takes. */
export interface ChatCompletionCreateParams extends CreateParams {
  /** The conversation so far. */
  messages: readonly ChatCompletionMessageParam[];
  /** The newer name of `max_tokens`. */
  max_completion_tokens?: number | null | undefined;
  /** Whether to report how likely each token was. */
  logprobs?: boolean | null | undefined;
  /** How many most likely tokens to report for each, 0 to 20; needs `logprobs: true`. Default 0. */
  top_logprobs?: number | null | undefined;
  /** vLLM's: whether the prompt ends where the assistant begins to answer. Default true. */
  add_generation_prompt?: ChatTemplateOptions["add_generation_prompt"] | null;
  /** vLLM's: whether the model continues the final message; needs `add_generation_prompt: false`. Default false. */
  continue_final_message?: ChatTemplateOptions["continue_final_message"] | null;
  /** vLLM's: documents for the chat template. Default: none. */
  documents?: ChatTemplateOptions["documents"];
  /** vLLM's: further variables of the chat template, such as `{ enable_thinking: false }`. Default: none. */
  chat_template_kwargs?: ChatTemplateOptions["chat_template_kwargs"];
  /** Becomes a variable of the chat template; unless `"none"`, `enable_thinking` becomes true too. Default: neither. */
  reasoning_effort?: "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max" | null;
  /** vLLM's: whether the answer tells the text that the template made. Default false. */
  return_prompt_text?: boolean | null;
  /** Functions that the model may call. */
  tools?: readonly FunctionTool[] | null | undefined;
  /** Whether it may call them, must, or must call a certain one. Default `"auto"` with tools. */
  tool_choice?: "none" | "auto" | "required" | { type: "function"; function: { name: string } } | null | undefined;
  /** Whether an answer may call several. Default true. */
  parallel_tool_calls?: boolean | null | undefined;
  /** What the answer must look like. Default: free text. */
  response_format?: ResponseFormat | null | undefined;
  /** A text that the answer is likely to have much of: a source of drafts. Default: none. */
  prediction?: ChatCompletionPredictionContent | null | undefined;
  /** Whether to answer in chunks. Default false. */
  stream?: boolean | null | undefined;
}
/** For one answer. */
export interface ChatCompletionCreateParamsNonStreaming extends ChatCompletionCreateParams {
  stream?: false | null | undefined;
}
/** For an answer in chunks. */
export interface ChatCompletionCreateParamsStreaming extends ChatCompletionCreateParams {
  stream: true;
}

/** What `completions.create` takes. */
export interface CompletionCreateParams extends CreateParams {
  /** A text, texts, token ids, or lists of them. */
  prompt: string | readonly string[] | readonly number[] | readonly (readonly number[])[];
  /** How many most likely tokens to report for each, 0 to 20. Default: no report. */
  logprobs?: number | null | undefined;
  /** Whether to answer in chunks. Default false. */
  stream?: boolean | null | undefined;
}
/** For one answer. */
export interface CompletionCreateParamsNonStreaming extends CompletionCreateParams {
  stream?: false | null | undefined;
}
/** For an answer in chunks. */
export interface CompletionCreateParamsStreaming extends CompletionCreateParams {
  stream: true;
}

/** Tokens read and written, over all prompts and choices. */
export interface CompletionUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: {
    /** Prompt tokens that the prefix cache had. */
    cached_tokens: number;
  };
  /** How tokens of a `prediction` fared; without one it is `null`, which OpenAI's types do not know. */
  completion_tokens_details?: PredictionDetails;
}

/** The usage so far: a chunk that is not the last leaves the details out. */
export type ChunkUsage = Omit<CompletionUsage, "prompt_tokens_details"> & Partial<Pick<CompletionUsage, "prompt_tokens_details">>;

/** vLLM's addition: how speculation went, over all prompts and choices. */
export interface ResponseMetrics {
  speculative_decoding: RequestSpeculation;
}

/** How likely a token was by the raw logits. */
export interface TopLogprob {
  /** Its text; of a token that ends a character that others began, the character, and of those nothing. */
  token: string;
  logprob: number;
  /** The UTF-8 bytes of its text. */
  bytes: number[];
}

/** A chosen token, and the most likely ones in its place. */
export interface ChatCompletionTokenLogprob extends TopLogprob {
  top_logprobs: TopLogprob[];
}

/** How likely the tokens of an answer were. */
export interface ChatCompletionLogprobs {
  content: ChatCompletionTokenLogprob[];
  refusal: null;
}

/** An answer. */
export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  /** Unix time in seconds. */
  created: number;
  model: string;
  choices: ChatCompletionChoice[];
  /** Tells versions apart. */
  system_fingerprint: string;
  usage: CompletionUsage;
  /** How likely the prompt was, with `prompt_logprobs` or `echo`. */
  prompt_logprobs: PromptLogprobs | null;
  /** The prompt's ids, with `return_token_ids`. */
  prompt_token_ids: number[] | null;
  /** What the template made, with `return_prompt_text`. */
  prompt_text: string | null;
  /** `null` without speculation. */
  metrics: ResponseMetrics | null;
}
/** One of the `n` answers. */
export interface ChatCompletionChoice {
  index: number;
  message: { role: "assistant"; refusal: null } & WholeMessage;
  logprobs: ChatCompletionLogprobs | null;
  finish_reason: "stop" | "length" | "tool_calls";
  /** Which of `stop` or `stop_token_ids` ended it, where one did. */
  stop_reason: number | string | null;
  /** Its ids, with `return_token_ids`. */
  token_ids: number[] | null;
}

/** A part of an answer, as it comes. */
export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  /** Empty in the last chunk, the one with the usage. */
  choices: ChatCompletionChunkChoice[];
  /** With `include_usage` in the last chunk, and with `continuous_usage_stats` in all. */
  usage?: ChunkUsage;
  /** In the last chunk. */
  system_fingerprint?: string;
  /** In the first chunk: the prompt's ids, with `return_token_ids`. */
  prompt_token_ids?: number[] | null;
  /** In the first chunk: what the template made, with `return_prompt_text`. */
  prompt_text?: string | null;
  /** Beside the usage. */
  metrics?: ResponseMetrics;
}
/** What is new of one of the `n` answers. */
export interface ChatCompletionChunkChoice {
  index: number;
  /** The role comes first, alone. */
  delta: { role?: "assistant" } & MessageDelta;
  logprobs: ChatCompletionLogprobs | null;
  finish_reason: "stop" | "length" | "tool_calls" | null;
  /** With the last: which of `stop` or `stop_token_ids` ended it, where one did. */
  stop_reason?: number | string | null;
  /** The new ids, with `return_token_ids`. */
  token_ids?: number[] | null;
}

/** For each token of a prompt it and the most likely ones, by their ids; `null` for the first. */
export type PromptLogprobs = (Record<number, { logprob: number; rank: number; decoded_token: string }> | null)[];

/** A value a token, in order. */
export interface CompletionLogprobs {
  /** Where each token starts: the summed lengths of the tokens before it, in characters. */
  text_offset: number[];
  /** The first of a prompt that is echoed is `null`, which OpenAI's types do not know. */
  token_logprobs: number[];
  tokens: string[];
  /** The chosen token and the most likely ones, by their texts; the first of a prompt that is echoed is `null`. */
  top_logprobs: Record<string, number>[];
}

/** The completions of one or more prompts. */
export interface Completion {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  /** Prompt by prompt, `n` for each. */
  choices: CompletionChoice[];
  /** Tells versions apart. */
  system_fingerprint: string;
  usage: CompletionUsage;
  /** `null` without speculation. */
  metrics: ResponseMetrics | null;
}
/** One completion. */
export interface CompletionChoice {
  index: number;
  text: string;
  logprobs: CompletionLogprobs | null;
  finish_reason: "stop" | "length";
  /** Which of `stop` or `stop_token_ids` ended it, where one did. */
  stop_reason: number | string | null;
  /** Its ids, with `return_token_ids`. */
  token_ids: number[] | null;
  /** How likely the prompt was, with `prompt_logprobs`, or with `echo` and `logprobs`; not in a stream. */
  prompt_logprobs?: PromptLogprobs | null;
  /** The prompt's ids, with `return_token_ids`. */
  prompt_token_ids: number[] | null;
}

/** A streamed part of a completion: the same object, with what is new. */
export interface CompletionChunk extends Omit<Completion, "choices" | "usage" | "metrics" | "system_fingerprint"> {
  choices: (Omit<CompletionChoice, "finish_reason"> & { finish_reason: "stop" | "length" | null })[];
  /** With `include_usage` in the last chunk, which has no choices, and with `continuous_usage_stats` in all. */
  usage?: ChunkUsage;
  /** In the last chunk. */
  system_fingerprint?: string;
  /** Beside the usage. */
  metrics?: ResponseMetrics;
}

/**
 * Chunks as they come. Leaving the loop ends the request, and so does `controller.abort()`, which also ends the loop. The
 * `signal` of the call's options makes the loop throw `aborted`.
 */
export interface Stream<T> extends AsyncIterable<T> {
  readonly controller: AbortController;
}

/** `llm.chat.completions`. */
export interface ChatCompletions {
  /**
   * Answers a conversation, as OpenAI's client does. Any `model` may be named.
   *
   * @throws {EmbergramError} `invalid_params` (unknown or unsupported keys among them), `invalid_prompt`,
   * `prompt_too_long`, `aborted`, `device_lost`. Of a stream, what only a step tells is thrown by a chunk.
   */
  create(body: ChatCompletionCreateParamsNonStreaming, options?: CallOptions): Promise<ChatCompletion>;
  /** The same with `stream: true`: the answer in chunks. */
  create(body: ChatCompletionCreateParamsStreaming, options?: CallOptions): Promise<Stream<ChatCompletionChunk>>;
  /** The same where `stream` is known only when it runs. */
  create(
    body: ChatCompletionCreateParams,
    options?: CallOptions,
  ): Promise<ChatCompletion | Stream<ChatCompletionChunk>>;
}

/** `llm.completions`. */
export interface Completions {
  /**
   * Completes prompts, as OpenAI's client does. Any `model` may be named.
   *
   * @throws {EmbergramError} as {@link ChatCompletions.create}
   */
  create(body: CompletionCreateParamsNonStreaming, options?: CallOptions): Promise<Completion>;
  /** The same with `stream: true`: the completions in chunks. */
  create(body: CompletionCreateParamsStreaming, options?: CallOptions): Promise<Stream<CompletionChunk>>;
  /** The same where `stream` is known only when it runs. */
  create(body: CompletionCreateParams, options?: CallOptions): Promise<Completion | Stream<CompletionChunk>>;
}
