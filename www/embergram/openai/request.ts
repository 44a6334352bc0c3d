/** Request bodies as prompts and sampling parameters, refused as vLLM's server refuses them. */
import type { Work } from "../host.js";
import type { ChatMessage, ChatTemplateOptions, SamplingDefaults, SamplingParams } from "../types.js";
import { extend, refuseOlderNames, type Extension } from "./extension.js";
import { ApiError, invalid } from "./errors.js";
import { FIELDS, namesOf, OPENAI_ONLY, typesOf, type Kind } from "./fields.js";
import { checkSampling } from "./limits.js";
import { nearest } from "./nearest.js";
import { repr } from "./python.js";
import { readBody } from "./schema.js";

/** What requests are made for. */
export interface Target {
  /** The model's name. */
  readonly name: string;
  /** Most tokens of a prompt and its output together. */
  readonly maxModelLen: number;
  /** Tokens of the vocabulary. */
  readonly vocabSize: number;
  /** What the model recommends to sample with. */
  readonly defaults: SamplingDefaults;
  /** Its chat template, by which the format of its calls of tools is known. */
  readonly chatTemplate: string | null;
  /** The token ids of prompts. */
  promptTokens(work: Work): Promise<number[][]>;
  /** The token ids of a text. */
  tokenize(text: string): Promise<number[]>;
}

/** What to run, and how to answer. */
export interface Request {
  caller: Caller;
  /** The prompts as ids. */
  prompts: number[][];
  /** The prompts' texts, where they came as such. */
  texts: readonly (string | null)[];
  params: SamplingParams & { n: number };
  /** The name of the model that the body gives. */
  model: string | undefined;
  stream: boolean;
  usage: "none" | "last" | "each";
  /** The body's own id. */
  id: string | undefined;
  /** Who answers a chat. */
  role: string;
  /** The text that a chat's answer begins with; for a completion whether it begins with its prompt. */
  echo: string | boolean;
  /** Whether only the prompt is wanted. */
  promptOnly: boolean;
  returnTokenIds: boolean;
  returnPromptText: boolean;
  /** Whether log-probabilities name tokens by their ids. */
  namesAreIds: boolean;
  extension: Extension;
}

/**
 * Who asks. A program is told of keys that nobody knows, and may name any model; a server passes over such keys and refuses other
 * models' names.
 */
export type Caller = "program" | "client";

type Body = Readonly<Record<string, unknown>>;

/** Reads and checks a body. */
export async function readRequest(target: Target, kind: Kind, given: unknown, caller: Caller): Promise<Request> {
  refuseOlderNames(given);
  if (caller === "program") {
    checkKeys(kind, given);
    given = withoutNull(given);
  }
  checkBefore(kind, given);
  const body = readBody(given, { fields: typesOf(kind), required: kind === "chat" ? ["messages"] : [] });
  const model = body["model"] as string | null | undefined;
  if (caller === "client") checkModel(target, model);
  checkSupport(kind, body);
  const extension = extend(kind, body, target.chatTemplate);
  const most = (body["max_completion_tokens"] ?? body["max_tokens"]) as number | null | undefined;
  const limit = most ?? (kind === "completion" ? 16 : undefined);
  checkLength(target, body, limit);
  const work = kind === "chat" ? chatWork(body, extension) : { prompts: promptsOf(target, body["prompt"]) };
  const prompts = await tokens(target, kind, body, work, limit);
  const promptOnly = kind === "completion" && body["echo"] === true && limit === 0;
  const max_tokens = promptOnly ? 1 : (limit ?? target.defaults.max_tokens ?? null);
  const logprobs = kind === "completion" ? body["logprobs"] : body["logprobs"] ? (body["top_logprobs"] ?? 0) : null;
  // What is echoed is scored as the rest is.
  const scored = body["prompt_logprobs"] ?? (body["echo"] === true ? (kind === "chat" ? (body["top_logprobs"] ?? 0) : logprobs) : null);
  const params = {
    n: 1,
    ...present(body, namesOf(kind, "sampling")),
    ...(body["logit_bias"] != null && { logit_bias: bias(body["logit_bias"] as Record<string, number>) }),
    ...(logprobs != null && { logprobs: logprobs as number }),
    ...(scored != null && { prompt_logprobs: scored as number }),
    ...extension.params,
    max_tokens,
  } as SamplingParams & { n: number };
  const room = target.maxModelLen - Math.max(...prompts.map((ids) => ids.length));
  checkSampling({ ...params, max_tokens: Math.min(room, max_tokens ?? room) }, target);
  const messages = "chats" in work ? work.chats[0]! : [];
  const role = body["add_generation_prompt"] === false ? (messages.at(-1)?.role ?? "assistant") : "assistant";
  const last = messages.at(-1);
  return {
    caller,
    prompts,
    texts: "prompts" in work ? work.prompts.map((prompt) => (typeof prompt === "string" ? prompt : null)) : [null],
    params,
    model: model ?? undefined,
    stream: body["stream"] === true,
    usage: usage(body),
    id: body["request_id"] as string | undefined,
    role,
    echo: kind === "completion" ? body["echo"] === true : body["echo"] === true && last?.role === role ? last.content : "",
    promptOnly,
    returnTokenIds: body["return_token_ids"] === true,
    returnPromptText: body["return_prompt_text"] === true,
    namesAreIds: body["return_tokens_as_token_ids"] === true,
    extension,
  };
}

/** Refuses another model's name, as vLLM's server does. */
export function checkModel({ name }: Pick<Target, "name">, model: string | null | undefined): void {
  if (!model || model === name) return;
  throw new ApiError(404, "NotFoundError", `The model \`${model}\` does not exist. Valid aliases: ${name}.`, "model");
}

function checkKeys(kind: Kind, body: unknown): void {
  const known = Object.keys(FIELDS).filter((name) => FIELDS[name]![kind]);
  if (typeof body !== "object" || body === null) return;
  for (const [key, value] of Object.entries(body)) {
    if (known.includes(key) || value === undefined) continue;
    const harmless = Object.hasOwn(OPENAI_ONLY, key) ? OPENAI_ONLY[key] : undefined;
    if (!harmless) {
      const hint = nearest(key, known);
      throw invalid(`unknown parameter ${repr(key)}${hint ? `; did you mean ${hint}?` : ""} (known: ${known.join(", ")})`, key);
    }
    if (value !== null && !harmless.includes(value)) throw invalid(`${key} is not supported; leave it out`, key);
  }
  const options = Object.keys(Object((body as Body)["stream_options"]) as object);
  const unknown = options.find((key) => key !== "include_usage" && key !== "continuous_usage_stats");
  if (unknown !== undefined) throw invalid(`unknown parameter stream_options.${unknown} (known: include_usage, continuous_usage_stats)`, "stream_options");
}

/** What vLLM checks before it looks at types. */
function checkBefore(kind: Kind, given: unknown): void {
  if (typeof given !== "object" || given === null || Array.isArray(given)) return;
  const body = given as Body;
  if (kind === "completion" && (body["prompt"] == null || body["prompt"] === "") && body["prompt_embeds"] == null) {
    throw invalid("Either prompt or prompt_embeds must be provided and non-empty.", "prompt");
  }
  if (kind === "chat" && body["continue_final_message"] && body["add_generation_prompt"]) {
    throw invalid("Cannot set both `continue_final_message` and `add_generation_prompt` to True.");
  }
  const counts = kind === "chat" ? ["prompt_logprobs", "top_logprobs"] : ["prompt_logprobs", "logprobs"];
  for (const name of counts) {
    const value = body[name];
    if (value != null && typeof value !== "number" && typeof value !== "boolean") throw invalid(`\`${name}\` must be an integer.`, name, String(value));
  }
  for (const name of counts) {
    const value = Number(body[name] ?? 0);
    if (value < 0 && value !== -1) throw invalid(`\`${name}\` must be a positive value or -1.`, name, String(value));
  }
  const scored = Number(body["prompt_logprobs"] ?? 0);
  if (body["stream"] && scored !== 0) throw invalid("`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs");
  if (kind === "chat" && Number(body["top_logprobs"] ?? 0) !== 0 && !body["logprobs"]) {
    throw invalid("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs");
  }
  if (isSet(body["stream_options"]) && !body["stream"]) {
    throw invalid("Stream options can only be defined when `stream=True`.", "stream_options");
  }
}

/** Whether Python takes an object for true. */
function isSet(value: unknown): boolean {
  return value != null && value !== false && (typeof value !== "object" || Object.keys(value).length > 0);
}

/** Refuses by name what is not to be had here. */
function checkSupport(kind: Kind, body: Body): void {
  if (body["suffix"] != null) throw invalidParam("suffix is only supported for models with FIM completion rendering", "suffix");
  const kwargs = body["chat_template_kwargs"] as Body | null | undefined;
  if (body["chat_template"] != null || kwargs?.["chat_template"] != null) {
    throw invalidParam("Chat template is passed with request, but --trust-request-chat-template is not set. Refused request with untrusted chat template.");
  }
  for (const [name, field] of Object.entries(FIELDS)) {
    const value = body[name];
    if (!field[kind] || typeof field.use !== "object" || !("refused" in field.use) || value == null) continue;
    if (field.use.but.includes(value) || (typeof value === "object" && Object.keys(value).length === 0)) continue;
    throw invalid(`${name} is not supported: ${field.use.refused}.`, name);
  }
}

/** As vLLM's `create_error_response`, whose text does not name the parameter. */
function invalidParam(message: string, param: string | null = null): ApiError {
  return new ApiError(400, "BadRequestError", message, param);
}

function checkLength({ maxModelLen }: Target, body: Body, most = 0): void {
  const name = body["max_completion_tokens"] != null ? "max_completion_tokens" : "max_tokens";
  if (most > maxModelLen) {
    throw invalid(`${name}=${most} cannot be greater than max_model_len=${maxModelLen}. Please request fewer output tokens.`, name, String(most));
  }
  const kept = body["truncate_prompt_tokens"];
  if (typeof kept === "number" && kept > maxModelLen) {
    const what = "truncate_prompt_tokens";
    throw invalid(`${what}=${kept} cannot be greater than max_model_len = ${maxModelLen}. Please request a smaller truncation size.`, what, String(kept));
  }
}

/** The ids of the prompts, cut where that is wanted. */
export async function tokens(target: Target, kind: Kind, body: Body, work: Work, most = 0): Promise<number[][]> {
  const { maxModelLen } = target;
  const wanted = body["add_special_tokens"] ?? kind === "completion";
  const prompts = await target.promptTokens(work);
  const given = "prompts" in work ? work.prompts.map((prompt) => typeof prompt === "string") : [true];
  const own = wanted === (kind === "completion") ? [] : await target.tokenize("");
  const truncate = body["truncate_prompt_tokens"] as number | null | undefined;
  const kept = truncate == null ? undefined : truncate === -1 ? (most === 0 ? maxModelLen : maxModelLen - 1) : truncate;
  return prompts.map((ids, i) => {
    if (own.length > 0 && given[i]) ids = wanted ? [...own, ...ids] : without(ids, own);
    if (kept !== undefined && kept < ids.length) {
      ids = body["truncation_side"] === "right" || kept === 0 ? ids.slice(0, kept) : ids.slice(-kept);
    }
    if (ids.length > maxModelLen) {
      // vLLM's tokenizer reads no further than one token beyond.
      const count = given[i] ? maxModelLen + 1 : ids.length;
      const message = `This model's maximum context length is ${maxModelLen} tokens. However, your prompt contains ` +
        `${count === maxModelLen + 1 ? "at least " : ""}${count} input tokens, which exceeds this limit even without any output tokens. ` +
        "Please reduce the length of the input prompt.";
      throw invalid(message, "input_tokens", String(count), "prompt_too_long");
    }
    return ids;
  });
}

function without(ids: number[], special: readonly number[]): number[] {
  return special.every((id, i) => ids[i] === id) ? ids.slice(special.length) : ids;
}

export function promptsOf({ vocabSize }: Target, prompt: unknown, name: "prompt" | "input" = "prompt"): readonly (string | number[])[] {
  const isIds = (value: unknown): value is number[] => Array.isArray(value) && value.length > 0 && value.every((id) => typeof id === "number");
  const all = (typeof prompt === "string" || isIds(prompt) ? [prompt] : prompt) as readonly (string | number[])[];
  if (all.length === 0 || all.some((one) => one.length === 0)) {
    const missing = name === "input" ? "input must not be empty." : "Either prompt or prompt_embeds must be provided and non-empty.";
    throw invalid(missing, name, undefined, "invalid_prompt");
  }
  for (const id of all.flatMap((one) => (typeof one === "string" ? [] : one))) {
    if (id >= vocabSize) throw invalid(`Token id ${id} is out of vocabulary`, name, undefined, "invalid_prompt");
  }
  return all;
}

/** A chat's messages and what else its template gets. */
export function chatWork(body: Body, { template: own }: Pick<Extension, "template">): Extract<Work, { chats: unknown }> {
  const template: Record<string, unknown> = { ...present(body, namesOf("chat", "template")), ...own };
  const effort = template["reasoning_effort"];
  if (effort !== undefined) {
    delete template["reasoning_effort"];
    template["chat_template_kwargs"] = { enable_thinking: effort !== "none", ...(template["chat_template_kwargs"] as object), reasoning_effort: effort };
  }
  const messages = body["messages"] as readonly unknown[];
  if (messages.length === 0) throw invalid("messages must have at least one message", "messages", undefined, "invalid_prompt");
  return { chats: [messages.map(message)], template: template as ChatTemplateOptions };
}

function message(value: unknown, i: number): ChatMessage {
  const at = `messages[${i}]`;
  const wrong = (what: string) => invalid(`${at}${what}`, `body.messages.${i}`, undefined, "invalid_prompt");
  const { role, content, ...others } = value as Record<string, unknown>;
  if (typeof role !== "string") throw wrong(".role must be a string such as 'user'");
  // What an assistant's message of an earlier answer has beside its content is null where there is none.
  const rest = Object.fromEntries(Object.entries(others).filter(([, other]) => other != null));
  if (content === undefined && !("tool_calls" in rest)) throw wrong(".content is missing");
  if (content == null || typeof content === "string") return { ...rest, role, content: content ?? "" };
  if (!Array.isArray(content)) throw wrong(".content must be a string, or a list of parts of type 'text'");
  const texts = content.map((part: unknown, j): string => {
    const { type = "text", text, refusal } = Object(part) as Record<string, unknown>;
    if (type === "image_url" || type === "input_audio" || type === "audio_url" || type === "video_url") {
      throw wrong(`.content[${j}] is of type ${repr(String(type))}; this model reads text alone`);
    }
    const said = type === "refusal" ? refusal : text;
    if ((type !== "text" && type !== "input_text" && type !== "output_text" && type !== "refusal") || typeof said !== "string") {
      throw wrong(`.content[${j}] must be { type: 'text', text: '...' }`);
    }
    return said;
  });
  return { ...rest, role, content: texts.join("\n") };
}

function usage(body: Body): Request["usage"] {
  const { include_usage, continuous_usage_stats } = (body["stream_options"] ?? {}) as Body;
  return include_usage ? (continuous_usage_stats ? "each" : "last") : "none";
}

/** vLLM's server brings values into the range, and takes ids as texts. */
function bias(given: Readonly<Record<string, number>>): Record<number, number> {
  const wrong = Object.keys(given).filter((key) => !/^\s*[-+]?\d+\s*$/.test(key));
  if (wrong.length > 0) {
    throw invalid(`logit_bias contains key(s) that cannot be converted to integer token IDs: [${wrong.map(repr).join(", ")}]`, "logit_bias", `[${wrong.map(repr).join(", ")}]`);
  }
  return Object.fromEntries(Object.entries(given).map(([key, value]) => [Number(key), Math.min(100, Math.max(-100, value))]));
}

/** OpenAI's client writes null for a default. */
function withoutNull(body: unknown): unknown {
  return typeof body === "object" && body !== null ? Object.fromEntries(Object.entries(body).filter(([, value]) => value != null)) : body;
}

/** What a body has of these keys: null stands for a default. */
function present(body: Body, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.filter((name) => body[name] != null).map((name) => [name, body[name]]));
}
