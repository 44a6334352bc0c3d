/** The fields of vLLM's requests: their types, and what becomes of each. A table in docs/openai.md is made of them. */
import { any, bool, either, int, list, literal, nullable, number, object, record, text, type Type } from "./schema.js";

/** Which request. */
export type Kind = "chat" | "completion";

/** What becomes of a field. */
export type Use =
  /** A sampling parameter of the same name. */
  | "sampling"
  /** A variable or an option of the chat template. */
  | "template"
  /** It shapes the request or the answer. */
  | "used"
  /** Structured outputs, tool calls and predictions: see `extension.ts`. */
  | "extension"
  /** Taken, and without effect here. */
  | { ignored: string }
  /** Refused, but for values that ask for nothing. */
  | { refused: string; but: readonly unknown[] };

export interface Field {
  chat?: Type;
  completion?: Type;
  use: Use;
}

const both = (type: Type, use: Use): Field => ({ chat: type, completion: type, use });
const chat = (type: Type, use: Use): Field => ({ chat: type, use });
const completion = (type: Type, use: Use): Field => ({ completion: type, use });
const ids = list(int(0));
const not = (refused: string, ...but: unknown[]): Use => ({ refused, but });
const ignored = (ignored: string): Use => ({ ignored });

const CLUSTER = "for servers of several parts";
const NO_MEDIA = "models here read text";

/** In vLLM's order, in which what is wrong is told. */
export const FIELDS: Readonly<Record<string, Field>> = {
  messages: chat(list(object), "used"),
  model: both(nullable(text), "used"),
  prompt: completion(nullable(either(ids, list(ids), text, list(text))), "used"),
  frequency_penalty: both(nullable(number), "sampling"),
  logit_bias: both(nullable(record(number)), "used"),
  logprobs: { chat: nullable(bool), completion: nullable(int()), use: "used" },
  top_logprobs: chat(nullable(int()), "used"),
  max_tokens: both(nullable(int()), "used"),
  max_completion_tokens: chat(nullable(int()), "used"),
  n: { chat: nullable(int()), completion: int(), use: "sampling" },
  presence_penalty: both(nullable(number), "sampling"),
  response_format: both(nullable(object), "extension"),
  seed: both(nullable(int()), "sampling"),
  stop: both(nullable(either(text, list(text))), "sampling"),
  stream: both(nullable(bool), "used"),
  stream_options: both(nullable(object), "used"),
  suffix: completion(nullable(text), not("no model here fills in the middle")),
  temperature: both(nullable(number), "sampling"),
  top_p: both(nullable(number), "sampling"),
  tools: chat(nullable(list(object)), "extension"),
  tool_choice: chat(nullable(either(literal("none"), literal("auto"), literal("required"), object)), "extension"),
  parallel_tool_calls: chat(nullable(bool), "extension"),
  prediction: chat(nullable(object), "extension"),
  reasoning_effort: chat(nullable(literal("none", "minimal", "low", "medium", "high", "xhigh", "max")), "template"),
  thinking_token_budget: both(nullable(int()), not("thinking is not counted apart", -1)),
  include_reasoning: chat(bool, "extension"),
  user: both(nullable(text), ignored("as in vLLM")),
  use_beam_search: both(bool, not("there is no beam search", false)),
  top_k: both(nullable(int()), "sampling"),
  min_p: both(nullable(number), "sampling"),
  repetition_penalty: both(nullable(number), "sampling"),
  watermarking: both(nullable(bool), not("there is no watermark", false)),
  length_penalty: both(number, ignored("for beam search")),
  stop_token_ids: both(nullable(list(int())), "sampling"),
  include_stop_str_in_output: both(bool, "sampling"),
  ignore_eos: both(bool, "sampling"),
  min_tokens: both(int(), "sampling"),
  skip_special_tokens: both(bool, "sampling"),
  spaces_between_special_tokens: both(bool, ignored("the tokenizers here put none")),
  truncate_prompt_tokens: both(nullable(int(-1)), "used"),
  truncation_side: both(nullable(literal("left", "right")), "used"),
  prompt_logprobs: both(nullable(int()), "used"),
  logprob_token_ids: both(nullable(list(int())), not("logprobs are those of the most likely tokens")),
  allowed_token_ids: both(nullable(list(int())), "sampling"),
  bad_words: both(list(text), "sampling"),
  echo: { chat: bool, completion: nullable(bool), use: "used" },
  add_generation_prompt: chat(bool, "template"),
  continue_final_message: chat(bool, "template"),
  add_special_tokens: both(bool, "used"),
  documents: chat(nullable(list(object)), "template"),
  chat_template: chat(nullable(text), not("give it to Llm.load, or to llm.chat")),
  chat_template_kwargs: chat(nullable(object), "template"),
  prompt_embeds: completion(any, not("prompts are texts and token ids")),
  media_io_kwargs: chat(nullable(object), not(NO_MEDIA)),
  mm_processor_kwargs: chat(nullable(object), not(NO_MEDIA)),
  structured_outputs: both(nullable(object), "extension"),
  priority: both(int(), not("requests come in their order", 0)),
  request_id: both(text, "used"),
  session_id: both(nullable(text), ignored("there is one engine")),
  return_tokens_as_token_ids: both(nullable(bool), "used"),
  return_token_ids: both(nullable(bool), "used"),
  routed_experts_prompt_start: both(int(0), ignored("no experts are told")),
  return_token_offsets: both(nullable(bool), ignored("as in vLLM, but for rendering")),
  return_prompt_text: chat(nullable(bool), "used"),
  mm_payload: both(literal("tensors", "none"), ignored(NO_MEDIA)),
  return_mm_kwargs: both(nullable(bool), ignored(NO_MEDIA)),
  cache_salt: both(nullable(text), ignored("the prefix cache has one user")),
  kv_transfer_params: both(nullable(object), not(CLUSTER)),
  ec_transfer_params: both(nullable(object), not(CLUSTER)),
  vllm_xargs: both(nullable(object), ignored("for plugins of vLLM")),
  repetition_detection: both(nullable(object), not("use repetition_penalty")),
  stream_interval: both(nullable(int(1)), not("each step is told", 1)),
};

/** What OpenAI's own server takes and vLLM does not know. `create` refuses these, but for values that ask for nothing. */
export const OPENAI_ONLY: Readonly<Record<string, readonly unknown[]>> = {
  functions: [], function_call: ["none"], modalities: [], audio: [], web_search_options: [], verbosity: [],
  store: [false], metadata: [], service_tier: ["auto", "default"], best_of: [1],
};

/** The fields of one kind of request and their types. */
export function typesOf(kind: Kind): Record<string, Type> {
  return Object.fromEntries(Object.entries(FIELDS).flatMap(([name, field]) => (field[kind] ? [[name, field[kind]]] : [])));
}

/** The fields of one kind of request with this use. */
export function namesOf(kind: Kind, use: Use): string[] {
  return Object.entries(FIELDS).flatMap(([name, field]) => (field[kind] && field.use === use ? [name] : []));
}
