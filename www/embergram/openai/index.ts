/** The OpenAI-shaped door: `llm.chat.completions.create` and `llm.completions.create`. */
import { EmbergramError } from "../error.js";
import type { Work } from "../host.js";
import type { CallOptions } from "../llm.js";
import type { Delta, FinishReason, OutputError, RequestOutput, RequestSpeculation, SamplingDefaults, SamplingParams } from "../types.js";
import { ratio } from "../stats.js";
import { TokenTexts, chatLogprobs, completionLogprobs } from "./logprobs.js";
import { predictionDetails } from "./prediction.js";
import type { MessageReader } from "./tools/index.js";
import { chatRequest, completionRequest, type Request } from "./request.js";
import type {
  ChatCompletion, ChatCompletionChunk, ChatCompletionCreateParams, ChatCompletions, Completion, CompletionChunk,
  CompletionCreateParams, CompletionUsage, Completions, ResponseMetrics, Stream,
} from "./types.js";

/** What the door needs of a loaded model. */
export interface Backend {
  /** The model's name. */
  readonly name: string;
  /** What it recommends to sample with. */
  readonly defaults: SamplingDefaults;
  /** Its chat template, by which the format of its calls of tools is known. */
  readonly chatTemplate: string | null;
  /** Runs prompts to their ends. */
  run(work: Work, params: SamplingParams, options: CallOptions): Promise<RequestOutput[]>;
  /** Runs prompts step by step; each delta with the prompt it belongs to. Leaving it aborts. */
  deltas(work: Work, params: SamplingParams, options: CallOptions): AsyncGenerator<[number, Delta], RequestOutput[]>;
  /** The text of each token by itself. */
  tokenTexts(ids: readonly number[]): Promise<string[]>;
}

export function chatCompletions(backend: Backend): ChatCompletions {
  async function create(body: ChatCompletionCreateParams, options: CallOptions = {}) {
    const request = chatRequest(body, backend.defaults, backend.chatTemplate);
    const head = { id: newId("chatcmpl"), created: now(), model: request.model ?? backend.name };
    return body.stream ? stream(options, (own) => chatChunks(backend, request, head, own)) : chat(backend, request, head, options);
  }
  return { create: create as ChatCompletions["create"] };
}

export function completions(backend: Backend): Completions {
  async function create(body: CompletionCreateParams, options: CallOptions = {}) {
    const request = completionRequest(body, backend.defaults);
    const head = { id: newId("cmpl"), created: now(), model: request.model ?? backend.name };
    return body.stream
      ? stream(options, (own) => completionChunks(backend, request, head, own))
      : complete(backend, request, head, options);
  }
  return { create: create as Completions["create"] };
}

interface Head {
  id: string;
  created: number;
  model: string;
}

async function chat(backend: Backend, { work, params, reader }: Request, head: Head, options: CallOptions): Promise<ChatCompletion> {
  const outputs = await backend.run(work, params, options);
  const texts = new TokenTexts(backend.tokenTexts);
  const choices = [];
  for (const { index, text, finish_reason, error, logprobs } of outputs.flatMap((o) => o.outputs)) {
    await texts.learn(logprobs);
    const reason = ended(finish_reason, error);
    const read = reader().whole(text);
    choices.push({
      index,
      message: { role: "assistant" as const, refusal: null, ...read.message },
      finish_reason: reason === "stop" ? (read.finish_reason ?? reason) : reason,
      logprobs: chatLogprobs(logprobs, texts, params.logprobs ?? 0),
    });
  }
  return { ...head, object: "chat.completion", choices, usage: usageOf(outputs), metrics: metricsOf(outputs) };
}

async function* chatChunks(
  backend: Backend,
  { work, params, includeUsage, reader }: Request,
  head: Head,
  options: CallOptions,
): AsyncGenerator<ChatCompletionChunk, void> {
  const texts = new TokenTexts(backend.tokenTexts);
  const chunk = (choice: ChatCompletionChunk["choices"][number]): ChatCompletionChunk => ({
    ...head, object: "chat.completion.chunk", choices: [choice], ...(includeUsage && { usage: null }),
  });
  const readers = new Map<number, MessageReader>();
  let outputs: RequestOutput[] = [];
  for await (const [, delta] of items(backend.deltas(work, params, options), (end) => (outputs = end))) {
    const { index, text } = delta;
    const own = readers.get(index) ?? reader();
    if (!readers.has(index)) {
      readers.set(index, own);
      yield chunk({ index, delta: { role: "assistant", content: "" }, finish_reason: null, logprobs: null });
    }
    const reason = delta.finish_reason && ended(delta.finish_reason, delta.error);
    const read = own.delta(text, reason !== null);
    if (!read && !reason && !delta.logprobs) continue;
    await texts.learn(delta.logprobs);
    const logprobs = chatLogprobs(delta.logprobs, texts, params.logprobs ?? 0);
    yield chunk({ index, delta: read?.delta ?? {}, finish_reason: reason === "stop" ? (read?.finish_reason ?? reason) : reason, logprobs });
  }
  if (includeUsage) {
    yield { ...head, object: "chat.completion.chunk", choices: [], usage: usageOf(outputs), metrics: metricsOf(outputs) };
  }
}

async function complete(backend: Backend, { work, params }: Request, head: Head, options: CallOptions): Promise<Completion> {
  const outputs = await backend.run(work, params, options);
  const texts = new TokenTexts(backend.tokenTexts);
  const choices = [];
  for (const [index, { text, finish_reason, error, logprobs }] of outputs.flatMap((o) => o.outputs).entries()) {
    await texts.learn(logprobs);
    choices.push({ index, text, finish_reason: ended(finish_reason, error), logprobs: completionLogprobs(logprobs, texts) });
  }
  return { ...head, object: "text_completion", choices, usage: usageOf(outputs), metrics: metricsOf(outputs) };
}

async function* completionChunks(
  backend: Backend,
  { work, params, includeUsage }: Request,
  head: Head,
  options: CallOptions,
): AsyncGenerator<CompletionChunk, void> {
  const texts = new TokenTexts(backend.tokenTexts);
  const offsets = new Map<number, number>();
  let outputs: RequestOutput[] = [];
  for await (const [prompt, delta] of items(backend.deltas(work, params, options), (end) => (outputs = end))) {
    const index = prompt * params.n + delta.index;
    const finish_reason = delta.finish_reason && ended(delta.finish_reason, delta.error);
    if (delta.text === "" && !finish_reason && !delta.logprobs) continue;
    await texts.learn(delta.logprobs);
    const offset = offsets.get(index) ?? 0;
    const logprobs = completionLogprobs(delta.logprobs, texts, offset);
    offsets.set(index, offset + (logprobs?.tokens.join("").length ?? 0));
    yield { ...head, object: "text_completion", choices: [{ index, text: delta.text, finish_reason, logprobs }] };
  }
  if (includeUsage) {
    yield { ...head, object: "text_completion", choices: [], usage: usageOf(outputs), metrics: metricsOf(outputs) };
  }
}

/** What a generator yields; `keep` gets what it returns, which `for await` would drop. */
async function* items<T, End>(generator: AsyncGenerator<T, End>, keep: (end: End) => void): AsyncGenerator<T, void> {
  keep(yield* generator);
}

/** A stream with a controller of its own beside the caller's signal. */
function stream<T>({ signal }: CallOptions, start: (options: CallOptions) => AsyncGenerator<T, void>): Stream<T> {
  const controller = new AbortController();
  const either = signal ? AbortSignal.any([signal, controller.signal]) : controller.signal;
  async function* chunks() {
    try {
      yield* start({ signal: either });
    } catch (error) {
      // As with OpenAI's client, one's own abort ends the loop and is no error.
      if (!controller.signal.aborted) throw error;
    }
  }
  return Object.assign(chunks(), { controller });
}

/** Why an output ended, in OpenAI's words, which have none for an error: like vLLM's server, the door throws it. */
function ended(reason: FinishReason | null, error: OutputError | null): "stop" | "length" {
  if (error) throw new EmbergramError(error.code, error.message);
  if (reason === "stop" || reason === "length") return reason;
  if (reason === "abort") throw new EmbergramError("aborted", "the call was aborted");
  throw new EmbergramError("internal", `the request ended with ${reason}`);
}

function usageOf(outputs: readonly RequestOutput[]): CompletionUsage {
  const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);
  const prompt_tokens = sum(outputs.map((o) => o.prompt_token_ids.length));
  const completion_tokens = sum(outputs.flatMap((o) => o.outputs.map((choice) => choice.token_ids.length)));
  // What n choices of one prompt share is counted once, as the prompt is.
  const cached_tokens = sum(outputs.map((o) => o.metrics?.num_cached_tokens ?? 0));
  return {
    prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens,
    prompt_tokens_details: { cached_tokens }, completion_tokens_details: predictionDetails(outputs),
  };
}

/** vLLM's figures over all choices, their counts summed. */
function metricsOf(outputs: readonly RequestOutput[]): ResponseMetrics {
  const all = outputs
    .flatMap((o) => o.outputs)
    .map((choice) => choice.metrics?.speculative_decoding)
    .filter((figures): figures is RequestSpeculation => figures != null);
  if (all.length === 0) return { speculative_decoding: null };
  const sum = (value: (figures: RequestSpeculation) => number) => all.reduce((total, figures) => total + value(figures), 0);
  const length = Math.max(...all.map((figures) => figures.acceptance_histogram.length));
  const num_spec_steps = sum((f) => f.num_spec_steps);
  const num_accepted_draft_tokens = sum((f) => f.num_accepted_draft_tokens);
  const num_draft_tokens = sum((f) => f.num_draft_tokens);
  return {
    speculative_decoding: {
      mean_acceptance_length: 1 + ratio(num_accepted_draft_tokens, num_spec_steps),
      draft_acceptance_rate: ratio(num_accepted_draft_tokens, num_draft_tokens),
      acceptance_histogram: Array.from({ length }, (_, i) => sum((f) => f.acceptance_histogram[i] ?? 0)),
      num_spec_steps, num_accepted_draft_tokens, num_draft_tokens,
      num_spec_tokens: Math.max(...all.map((f) => f.num_spec_tokens)),
    },
  };
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}

function newId(kind: "chatcmpl" | "cmpl"): string {
  return `${kind}-${crypto.randomUUID().replaceAll("-", "")}`;
}
