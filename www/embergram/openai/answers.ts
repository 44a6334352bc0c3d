/** The answers of both doors, `create` and `fetch`, in the shapes and the order of vLLM's server. */
import { EmbergramError } from "../error.js";
import type { Work } from "../host.js";
import type { CallOptions } from "../llm.js";
import { ratio } from "../stats.js";
import type { CompletionOutput, Delta, FinishReason, OutputError, RequestOutput, RequestSpeculation, SamplingParams, TokenLogprob } from "../types.js";
import { VERSION } from "../version.js";
import { chatLogprobs, completionLogprobs, promptLogprobs, TokenNames, type Texts } from "./logprobs.js";
import { predictionDetails, type PredictionDetails } from "./prediction.js";
import type { Request, Target } from "./request.js";
import type { ChatCompletion, ChatCompletionChunk, Completion, CompletionChunk, CompletionUsage, ResponseMetrics } from "./types.js";

/** What the doors need of a loaded model. */
export interface Backend extends Target, Texts {
  /** Runs prompts to their ends. */
  run(work: Work, params: SamplingParams, options: CallOptions): Promise<RequestOutput[]>;
  /** Runs prompts step by step; each delta with the prompt it belongs to. Leaving it aborts. */
  deltas(work: Work, params: SamplingParams, options: CallOptions): AsyncGenerator<[number, Delta], RequestOutput[]>;
}

/** What all parts of an answer begin with. */
export interface Head {
  id: string;
  created: number;
  model: string;
}

const FINGERPRINT = `embergram-${VERSION}`;

export async function chat(backend: Backend, request: Request, head: Head, options: CallOptions): Promise<ChatCompletion> {
  const outputs = await backend.run({ prompts: request.prompts }, request.params, options);
  const known = new Map<number, string>();
  const choices = [];
  for (const output of outputs[0]!.outputs) {
    const reason = ended(output);
    const read = request.extension.reader().whole(output.text);
    const names = new TokenNames(backend, request.namesAreIds, known);
    const logprobs = await logprobsOf(output, names, request);
    const { content, ...more } = read.message;
    choices.push({
      index: output.index,
      message: {
        role: request.role, content: request.echo ? `${request.echo}${content ?? ""}` : content, refusal: null, annotations: null,
        audio: null, function_call: null, ...more, reasoning: more.reasoning_content ?? null,
      },
      logprobs,
      finish_reason: read.finish_reason ?? reason,
      stop_reason: output.stop_reason,
      token_ids: request.returnTokenIds ? output.token_ids : null,
      routed_experts: null,
    });
  }
  const answer = {
    id: head.id, object: "chat.completion", created: head.created, model: head.model, choices, service_tier: null,
    system_fingerprint: FINGERPRINT, usage: usageOf(outputs, request), prompt_logprobs: await scores(outputs[0]!, new TokenNames(backend, false, known)),
    prompt_token_ids: request.returnTokenIds ? request.prompts[0]! : null, prompt_text: await promptText(backend, request),
    ...NO_TRANSFER, metrics: metricsOf(outputs),
  };
  return answer as ChatCompletion;
}

export async function* chatChunks(backend: Backend, request: Request, head: Head, options: CallOptions): AsyncGenerator<ChatCompletionChunk, void> {
  const { n } = request.params;
  const count = request.prompts[0]!.length;
  const texts = new Map<number, string>();
  const states = Array.from({ length: n }, () => ({
    reader: request.extension.reader(), names: new TokenNames(backend, request.namesAreIds, texts), tokens: 0,
  }));
  const chunk = (choice: object, more: object = {}, tokens = 0) => ({
    id: head.id, object: "chat.completion.chunk" as const, created: head.created, model: head.model, choices: [choice],
    ...(request.usage === "each" && { usage: { ...usage(count, tokens), completion_tokens_details: null } }), ...more,
  }) as unknown as ChatCompletionChunk;
  const begin = async function* () {
    const more = { prompt_token_ids: request.returnTokenIds ? request.prompts[0]! : null, prompt_text: await promptText(backend, request) };
    for (let index = 0; index < n; index++) {
      yield chunk({ index, delta: { role: request.role, content: "" }, logprobs: null, finish_reason: null }, more);
    }
    for (let index = 0; request.echo && index < n; index++) {
      yield chunk({ index, delta: { content: request.echo }, logprobs: null, finish_reason: null });
    }
  };
  let outputs: RequestOutput[] = [];
  let begun = false;
  for await (const [, delta] of items(backend.deltas({ prompts: request.prompts }, request.params, options), (end) => (outputs = end))) {
    // What the engine refuses comes before the first chunk.
    if (!begun) yield* begin();
    begun = true;
    const { index, token_ids } = delta;
    const state = states[index]!;
    const finished = delta.finish_reason !== null;
    const reason = finished ? ended(delta) : null;
    const read = state.reader.delta(delta.text, finished);
    state.tokens += token_ids.length;
    const logprobs = await logprobsOf(delta, state.names, request);
    if (!read && !finished && !logprobs && !request.returnTokenIds) continue;
    yield chunk({
      index, delta: read?.delta ?? {}, logprobs, finish_reason: reason && (read?.finish_reason ?? reason),
      ...(finished && { stop_reason: delta.stop_reason }), token_ids: request.returnTokenIds ? token_ids : null,
    }, request.usage === "none" && finished ? { system_fingerprint: FINGERPRINT } : {}, state.tokens);
  }
  if (request.usage !== "none") {
    yield lastChunk({ id: head.id, object: "chat.completion.chunk" as const, created: head.created, model: head.model }, outputs, request);
  }
}

export async function complete(backend: Backend, request: Request, head: Head, options: CallOptions): Promise<Completion> {
  const outputs = await backend.run({ prompts: request.prompts }, request.params, options);
  const echoes = await echoed(backend, request);
  const known = new Map<number, string>();
  const choices = [];
  for (const [prompt, output] of outputs.entries()) {
    for (const choice of output.outputs) {
      const names = new TokenNames(backend, request.namesAreIds, known);
      const own = request.promptOnly ? [] : choice.logprobs;
      const logprobs = choice.logprobs && [...(request.echo ? (output.prompt_logprobs ?? []) : []), ...own!];
      choices.push({
        index: choices.length,
        text: echoes[prompt]! + (request.promptOnly ? "" : choice.text),
        logprobs: await completionLogprobs(logprobs, names, 0, request.prompts[prompt]![0]),
        finish_reason: ended(choice),
        stop_reason: choice.stop_reason,
        token_ids: request.returnTokenIds ? choice.token_ids : null,
        prompt_logprobs: await scores(output, new TokenNames(backend, false, known)),
        prompt_token_ids: request.returnTokenIds ? request.prompts[prompt]! : null,
        routed_experts: null,
      });
    }
  }
  const answer = {
    id: head.id, object: "text_completion" as const, created: head.created, model: head.model, choices, service_tier: null,
    system_fingerprint: FINGERPRINT, usage: usageOf(outputs, request), ...NO_TRANSFER, metrics: metricsOf(outputs),
  };
  return answer;
}

export async function* completionChunks(backend: Backend, request: Request, head: Head, options: CallOptions): AsyncGenerator<CompletionChunk, void> {
  const echoes = await echoed(backend, request);
  const known = new Map<number, string>();
  const states = request.prompts.flatMap((ids, prompt) => Array.from({ length: request.params.n }, () => ({
    ids, echo: echoes[prompt]!, names: new TokenNames(backend, request.namesAreIds, known), tokens: 0, offset: 0, begun: false,
  })));
  /** What is known of the prompts, which all choices of one share. */
  const prompts: (TokenLogprob[] | null)[][] = [];
  const first = { id: head.id, object: "text_completion" as const, created: head.created, model: head.model };
  let outputs: RequestOutput[] = [];
  for await (const [prompt, delta] of items(backend.deltas({ prompts: request.prompts }, request.params, options), (end) => (outputs = end))) {
    const index = prompt * request.params.n + delta.index;
    const state = states[index]!;
    if (delta.prompt_logprobs) prompts[prompt] = delta.prompt_logprobs;
    const finish_reason = delta.finish_reason && ended(delta);
    if (delta.text === "" && delta.token_ids.length === 0 && state.tokens === 0 && !finish_reason) continue;
    const told = delta.logprobs && [...(state.begun || !request.echo ? [] : (prompts[prompt] ?? [])), ...(request.promptOnly ? [] : delta.logprobs)];
    const logprobs = await completionLogprobs(told, state.names, state.offset, state.ids[0]);
    if (logprobs && logprobs.tokens.length > 0) state.offset = logprobs.text_offset.at(-1)! + [...logprobs.tokens.at(-1)!].length;
    state.tokens += delta.token_ids.length;
    const choice = {
      index, text: (state.begun ? "" : state.echo) + (request.promptOnly ? "" : delta.text), logprobs, finish_reason,
      stop_reason: delta.stop_reason,
      prompt_token_ids: !state.begun && (request.returnTokenIds || request.echo) ? state.ids : null,
      token_ids: request.returnTokenIds ? delta.token_ids : null,
    };
    state.begun = true;
    yield {
      ...first, choices: [choice], ...(request.usage === "each" && { usage: usage(state.ids.length, state.tokens) }),
      ...(request.usage === "none" && finish_reason && { system_fingerprint: FINGERPRINT }),
    };
  }
  if (request.usage !== "none") yield lastChunk(first, outputs, request);
}

/** How likely the prompt of an output was, where that is known. */
async function scores({ prompt_logprobs, prompt_token_ids }: RequestOutput, names: TokenNames) {
  return promptLogprobs(prompt_logprobs, prompt_token_ids, names);
}

/** A program's have a field that OpenAI's types have and vLLM leaves out. */
async function logprobsOf({ logprobs }: Pick<Delta, "logprobs">, names: TokenNames, { caller, params }: Request) {
  const own = await chatLogprobs(logprobs, names, params.logprobs ?? 0);
  return own && caller === "program" ? { ...own, refusal: null } : own;
}

/** vLLM's fields of clusters. */
const NO_TRANSFER = { kv_transfer_params: null, ec_transfer_params: null };

function lastChunk<T extends object>(first: T, outputs: readonly RequestOutput[], request: Request) {
  const metrics = metricsOf(outputs);
  const { completion_tokens_details: details, ...own } = usageOf(outputs, request);
  const usage = { ...own, ...(details && { completion_tokens_details: details }) };
  return { ...first, choices: [], usage, system_fingerprint: FINGERPRINT, ...(metrics && { metrics }) };
}

/** The prompts' texts, where answers begin with them. */
async function echoed(backend: Backend, { prompts, texts, echo, returnTokenIds }: Request): Promise<string[]> {
  if (!echo || returnTokenIds) return prompts.map(() => "");
  return Promise.all(prompts.map(async (ids, i) => texts[i] ?? backend.detokenize(ids)));
}

async function promptText(backend: Backend, { prompts, returnPromptText }: Request): Promise<string | null> {
  return returnPromptText ? backend.detokenize(prompts[0]!) : null;
}

/** What a generator yields; `keep` gets what it returns, which `for await` would drop. */
async function* items<T, End>(generator: AsyncGenerator<T, End>, keep: (end: End) => void): AsyncGenerator<T, void> {
  keep(yield* generator);
}

/** Why an output ended, in OpenAI's words, which have none for an error: like vLLM's server, the door throws it. */
function ended({ finish_reason: reason, error }: { finish_reason: FinishReason | null; error: OutputError | null }): "stop" | "length" {
  if (error) throw new EmbergramError(error.code, error.message);
  if (reason === "stop" || reason === "length") return reason;
  if (reason === "abort") throw new EmbergramError("aborted", "the call was aborted");
  throw new EmbergramError("internal", `the request ended with ${reason}`);
}

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
const choicesOf = (outputs: readonly RequestOutput[]): CompletionOutput[] => outputs.flatMap((o) => o.outputs);

function usage(prompt_tokens: number, completion_tokens: number) {
  return { prompt_tokens, total_tokens: prompt_tokens + completion_tokens, completion_tokens };
}

function usageOf(outputs: readonly RequestOutput[], { params }: Request): CompletionUsage {
  const own = usage(sum(outputs.map((o) => o.prompt_token_ids.length)), sum(choicesOf(outputs).map((choice) => choice.token_ids.length)));
  // What n choices of one prompt share is counted once, as the prompt is.
  const cached_tokens = sum(outputs.map((o) => o.metrics?.num_cached_tokens ?? 0));
  return { ...own, prompt_tokens_details: { cached_tokens }, completion_tokens_details: params.prediction == null ? (null as unknown as PredictionDetails) : predictionDetails(outputs) };
}

/** vLLM's figures over all choices, their counts summed. */
function metricsOf(outputs: readonly RequestOutput[]): ResponseMetrics | null {
  const all = choicesOf(outputs)
    .map((choice) => choice.metrics?.speculative_decoding)
    .filter((figures): figures is RequestSpeculation => figures != null);
  if (all.length === 0) return null;
  const total = (value: (figures: RequestSpeculation) => number) => sum(all.map(value));
  const length = Math.max(...all.map((figures) => figures.acceptance_histogram.length));
  const num_spec_steps = total((f) => f.num_spec_steps);
  const num_accepted_draft_tokens = total((f) => f.num_accepted_draft_tokens);
  const num_draft_tokens = total((f) => f.num_draft_tokens);
  return {
    speculative_decoding: {
      mean_acceptance_length: 1 + ratio(num_accepted_draft_tokens, num_spec_steps),
      draft_acceptance_rate: ratio(num_accepted_draft_tokens, num_draft_tokens),
      acceptance_histogram: Array.from({ length }, (_, i) => total((f) => f.acceptance_histogram[i] ?? 0)),
      num_spec_steps, num_accepted_draft_tokens, num_draft_tokens,
      num_spec_tokens: Math.max(...all.map((f) => f.num_spec_tokens)),
    },
  };
}
