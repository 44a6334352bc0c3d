/** OpenAI's request bodies as the engine's prompts and sampling parameters. */
import { EmbergramError } from "../error.js";
import type { Work } from "../host.js";
import type { ChatMessage, ChatTemplateOptions, Prompt, SamplingDefaults, SamplingParams } from "../types.js";
import { GUIDED } from "./structured.js";
import { extensionOf, type MessageReader } from "./tools/index.js";
import type { ChatCompletionCreateParams, CompletionCreateParams, CreateParams } from "./types.js";

/** What to run, and how to answer. */
export interface Request {
  work: Work;
  params: SamplingParams & { n: number };
  /** What the answer calls the model; `undefined` for its own name. */
  model: string | undefined;
  includeUsage: boolean;
  /** A reader for one choice's text. */
  reader(): MessageReader;
}

/** Keys whose values are sampling parameters of the same name. The engine checks the values. */
const SAMPLING = [
  "n", "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty",
  "logit_bias", "min_tokens", "stop", "stop_token_ids", "ignore_eos", "include_stop_str_in_output", "skip_special_tokens",
  "structured_outputs",
] as const;
const SHARED = [...SAMPLING, "model", "max_tokens", "logprobs", "stream", "stream_options", "user"];
/** Keys that the chat template gets under the same name, as in vLLM's server. The engine checks the values. */
const TEMPLATE = ["add_generation_prompt", "continue_final_message", "documents", "chat_template_kwargs"] as const;
/** What `tools/` reads. */
const EXTENSION = ["tools", "tool_choice", "parallel_tool_calls", "response_format", "prediction"];
const CHAT = [...SHARED, ...TEMPLATE, "messages", "max_completion_tokens", "top_logprobs", ...EXTENSION];
const COMPLETION = [...SHARED, "prompt"];

/** OpenAI's and vLLM's keys that are not supported yet, and the values with which they ask for nothing. */
const UNSUPPORTED: Readonly<Record<string, readonly unknown[]>> = {
  functions: [], function_call: ["none"],
  modalities: [], audio: [], web_search_options: [], reasoning_effort: ["none"], verbosity: [],
  store: [false], metadata: [], service_tier: ["auto", "default"],
  echo: [false], suffix: [""], best_of: [1], use_beam_search: [false], prompt_logprobs: [],
  chat_template: [],
};

export function chatRequest(body: ChatCompletionCreateParams, defaults: SamplingDefaults, chatTemplate: string | null): Request {
  checkKeys(body, CHAT);
  const { logprobs, top_logprobs: top, max_completion_tokens: newer, max_tokens: older } = body;
  const extension = extensionOf(body, chatTemplate);
  if (newer != null && older != null && newer !== older) {
    throw wrong(`max_completion_tokens is ${newer} and max_tokens ${older}; give one of them`);
  }
  if (logprobs != null && typeof logprobs !== "boolean") {
    throw wrong(`logprobs is ${shown(logprobs)}, but must be true or false; how many tokens is top_logprobs`);
  }
  if (top != null && logprobs !== true) throw wrong("top_logprobs needs logprobs: true");
  if (!Array.isArray(body.messages) || body.messages.length === 0) {
    throw new EmbergramError("invalid_prompt", "messages must be an array of at least one { role, content }");
  }
  const template: ChatTemplateOptions = { ...given(body, TEMPLATE), ...extension.template };
  const work = { chats: [body.messages.map(message)], template };
  const made = request(body, work, newer ?? older ?? defaults.max_tokens, logprobs ? (top ?? 0) : null);
  return { ...made, params: { ...made.params, ...extension.params }, reader: extension.reader };
}

export function completionRequest(body: CompletionCreateParams, defaults: SamplingDefaults): Request {
  checkKeys(body, COMPLETION);
  return request(body, { prompts: prompts(body.prompt) }, body.max_tokens ?? defaults.max_tokens, body.logprobs);
}

/** What a body has of these keys. OpenAI writes null for a default; the engine takes null only where the default is "none". */
function given<K extends string>(body: { [key in K]?: unknown }, keys: readonly K[]): object {
  return Object.fromEntries(keys.filter((key) => body[key] != null).map((key) => [key, body[key]]));
}

function request(
  body: CreateParams & { stream?: boolean | null | undefined },
  work: Work,
  maxTokens: number | null | undefined,
  logprobs: number | null | undefined,
): Request {
  if (body.stream != null && typeof body.stream !== "boolean") {
    throw wrong(`stream is ${shown(body.stream)}, but must be true or false`);
  }
  const params: SamplingParams = { ...given(body, SAMPLING), max_tokens: maxTokens ?? null };
  if (logprobs != null) params.logprobs = logprobs;
  const { reader } = extensionOf({}, null);
  return { work, params: { n: 1, ...params }, model: body.model, includeUsage: includeUsage(body), reader };
}

function includeUsage({ stream, stream_options: options }: CreateParams & { stream?: boolean | null | undefined }): boolean {
  if (options == null) return false;
  if (stream !== true) throw wrong("stream_options needs stream: true");
  const { include_usage: usage = false, ...others } = options;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw wrong(`stream_options.${unknown} is unknown or not supported yet (known: include_usage)`);
  if (typeof usage !== "boolean") throw wrong(`stream_options.include_usage is ${shown(usage)}, but must be true or false`);
  return usage;
}

function checkKeys(body: object, known: readonly string[]): void {
  if (typeof body !== "object" || body === null) throw wrong("create takes an object, as OpenAI's client does");
  for (const [key, value] of Object.entries(body)) {
    if (known.includes(key) || value === undefined) continue;
    const harmless = Object.hasOwn(UNSUPPORTED, key) ? UNSUPPORTED[key] : undefined;
    if (Object.hasOwn(GUIDED, key)) throw wrong(`${key} is vLLM's older name; give ${GUIDED[key]}`);
    if (!harmless) {
      const hint = nearest(key, known);
      throw wrong(`unknown parameter ${shown(key)}${hint ? `; did you mean ${hint}?` : ""} (known: ${known.join(", ")})`);
    }
    if (value !== null && !harmless.includes(value)) throw wrong(`${key} is not supported yet; leave it out`);
  }
}

/** What a message may have beside role and content; the model's template looks at it. */
const MESSAGE = ["name", "tool_calls", "tool_call_id", "reasoning_content"];

function message(value: unknown, i: number): ChatMessage {
  const at = `messages[${i}]`;
  const invalid = (what: string) => new EmbergramError("invalid_prompt", `${at}${what}`);
  if (typeof value !== "object" || value === null) throw invalid(` is ${shown(value)}, but must be { role, content }`);
  const { role, content, ...others } = value as Record<string, unknown>;
  if (typeof role !== "string") throw invalid(`.role is ${shown(role)}, but must be a string such as "user"`);
  for (const [key, other] of Object.entries(others)) {
    // What an assistant's message of OpenAI has beside its content is null when there is none.
    if (other != null && !MESSAGE.includes(key)) throw invalid(`.${key} is not supported yet; give role and content`);
  }
  const rest = Object.fromEntries(Object.entries(others).filter(([, other]) => other != null));
  if (typeof content === "string") return { ...rest, role, content };
  if (content == null && "tool_calls" in rest) return { ...rest, role, content: "" };
  if (!Array.isArray(content)) {
    throw invalid(`.content is ${shown(content)}, but must be a string or an array of { type: "text", text }`);
  }
  const texts = content.map((part: unknown, j): string => {
    const { type, text } = Object(part) as { type?: unknown; text?: unknown };
    if (type !== "text") throw invalid(`.content[${j}]: type ${shown(type)} is not supported yet; only "text" is`);
    if (typeof text !== "string") throw invalid(`.content[${j}].text is ${shown(text)}, but must be a string`);
    return text;
  });
  return { ...rest, role, content: texts.join("\n") };
}

function prompts(prompt: CompletionCreateParams["prompt"]): readonly Prompt[] {
  const isIds = (value: unknown): value is readonly number[] =>
    Array.isArray(value) && value.length > 0 && value.every((id) => typeof id === "number");
  if (typeof prompt === "string" || isIds(prompt)) return [prompt];
  const list: readonly unknown[] = Array.isArray(prompt) ? prompt : [];
  if (list.length > 0 && list.every((one): one is Prompt => typeof one === "string" || isIds(one))) return list;
  throw new EmbergramError(
    "invalid_prompt",
    `prompt is ${shown(prompt)}, but must be a string, an array of strings, token ids, or an array of lists of token ids`,
  );
}

function wrong(message: string): EmbergramError {
  return new EmbergramError("invalid_params", message);
}

/** A value in an error message, cut where it gets long. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** The known name that a misspelt one is closest to, if it is close: at most a third of it differs. */
function nearest(key: string, known: readonly string[]): string | undefined {
  const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, "");
  const own = plain(key);
  if (own.length > 64) return undefined;
  const [best] = known.map((name) => ({ name, distance: edits(own, plain(name)) })).sort((a, b) => a.distance - b.distance);
  return best && best.distance <= own.length / 3 ? best.name : undefined;
}

/** Levenshtein's distance. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}
