/** A host whose engine is a server's: it takes the place of an `EngineHost`. */
import type { HostApi } from "../connection.js";
import { EmbergramError, asEmbergramError, unloadedError } from "../error.js";
import type { OnDelta, Work } from "../host.js";
import type { Process } from "../processors.js";
import type { CompletionOutput, Delta, EmbeddingOutput, FinishReason, Metric, ModelInfo, PoolingParams, Prompt, RequestMetrics, RequestOutput, RequestSpeculation, SamplingParams, TokenLogprob } from "../types.js";
import { readExposition } from "./exposition.js";
import type { Server } from "./server.js";

/** A server's model, as `/v1/models` tells it. */
interface Listed {
  id: string;
  owned_by?: string;
  max_model_len?: number | null;
}

interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number | null } | null;
  completion_tokens_details?: { accepted_prediction_tokens?: number | null; rejected_prediction_tokens?: number | null } | null;
}

/** An answer, or a part of one, of either door. */
interface Answer {
  choices: {
    index: number;
    text?: string;
    message?: { content: string | null };
    delta?: { content?: string | null };
    logprobs?: { content?: Named[] | null } | CompletionNamed | null;
    finish_reason: string | null;
    stop_reason?: number | string | null;
    token_ids?: number[] | null;
    prompt_token_ids?: number[] | null;
    prompt_logprobs?: Scores | null;
  }[];
  prompt_logprobs?: Scores | null;
  prompt_token_ids?: number[] | null;
  usage?: Usage | null;
  metrics?: { speculative_decoding?: RequestSpeculation | null } | null;
}
type Scores = (Record<string, { logprob: number; rank: number }> | null)[];
interface Named {
  token: string;
  logprob: number;
  top_logprobs?: Named[];
}
interface CompletionNamed {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
}

/** A server's own counters and settings are not a page's to change. */
const NOT_OURS = "is not to be set through a connection: ";

export class RemoteHost implements Pick<HostApi, Exclude<keyof HostApi, "load" | "inspect" | "download">> {
  readonly #server: Server;
  readonly #model: string;
  /** The model's context, where the server tells it. */
  readonly #context: number | undefined;
  /** Whether it takes vLLM's fields; others may refuse what they do not know. */
  readonly #isVllm: boolean;
  /** Whether it is `embergram serve`. */
  readonly #isOwn: boolean;
  readonly #calls = new Map<number, AbortController>();
  #dead: EmbergramError | undefined;

  private constructor(server: Server, { id, owned_by, max_model_len }: Listed) {
    this.#server = server;
    this.#model = id;
    this.#context = max_model_len ?? undefined;
    this.#isOwn = owned_by === "embergram";
    this.#isVllm = owned_by === "vllm" || this.#isOwn;
  }

  /** Asks a server for its models, and takes one. */
  static async connect(server: Server, model: string | undefined, signal: AbortSignal | undefined): Promise<{ host: RemoteHost; info: ModelInfo }> {
    const { data } = await server.json<{ data?: Listed[] }>("/v1/models", undefined, signal);
    if (!Array.isArray(data)) throw new EmbergramError("http", `${server.address}/v1/models has no list of models, so that it is no server of OpenAI's API`);
    const listed = model === undefined ? data[0] : data.find(({ id }) => id === model);
    if (!listed) {
      const there = data.map(({ id }) => id).join(", ") || "none";
      throw new EmbergramError("unknown_model", `${server.address} has no model ${model === undefined ? "" : `"${model}" `}(it has: ${there})`);
    }
    const info: ModelInfo = {
      name: listed.id, max_model_len: listed.max_model_len ?? Infinity, vocab_size: Infinity, has_chat_template: true, chat_template: null, defaults: {},
      adapter: { backend: "server", name: server.address, vendor: listed.owned_by ?? "", architecture: "", software: false },
    };
    return { host: new RemoteHost(server, listed), info };
  }

  async run(call: number, work: Work, params: SamplingParams | readonly SamplingParams[], onDelta?: OnDelta, process?: Process): Promise<RequestOutput[]> {
    if (this.#dead) throw this.#dead;
    if (process) throw new EmbergramError("invalid_params", "logits_processors are functions, and no server takes these; leave them out");
    const abort = new AbortController();
    this.#calls.set(call, abort);
    const begun: Output[] = [];
    try {
      const count = ("chats" in work ? work.chats : work.prompts).length;
      const of = (i: number): SamplingParams => (Array.isArray(params) ? (params as SamplingParams[])[i]! : (params as SamplingParams));
      if (Array.isArray(params) && params.length !== count) {
        throw new EmbergramError("invalid_params", `there are ${params.length} sets of sampling parameters for ${count} prompts; give one, or one a prompt`);
      }
      return await Promise.all(Array.from({ length: count }, (_, i) => this.#ask(work, i, of(i), onDelta, abort.signal, begun)));
    } catch (error) {
      // One refused is all refused.
      const aborted = () => new EmbergramError("aborted", "the call was aborted", { partial: begun.map((output) => output.end()) });
      const ended = this.#dead ?? (abort.signal.aborted ? aborted() : asEmbergramError(error));
      abort.abort();
      throw ended;
    } finally {
      this.#calls.delete(call);
    }
  }

  async #ask(work: Work, i: number, params: SamplingParams, onDelta: OnDelta | undefined, signal: AbortSignal, begun: Output[]): Promise<RequestOutput> {
    const start = performance.now() / 1000;
    const isChat = "chats" in work;
    const prompt = isChat ? null : work.prompts[i]!;
    const path = isChat ? "/v1/chat/completions" : "/v1/completions";
    const body = {
      model: this.#model,
      ...(isChat ? { messages: work.chats[i], ...work.template } : { prompt: typeof prompt === "string" ? prompt : [...prompt!] }),
      ...this.#fields(params, isChat),
      ...(this.#isVllm && { return_token_ids: true, ...(params.logprobs != null && { return_tokens_as_token_ids: true }) }),
      ...(onDelta && { stream: true, stream_options: { include_usage: true } }),
    };
    const output = new Output(typeof prompt === "string" ? prompt : null, promptIds(prompt), params, start);
    begun[i] = output;
    if (!onDelta) {
      output.add(await this.#server.json<Answer>(path, body, signal));
      return output.end();
    }
    for await (const chunk of await this.#server.events<Answer>(path, body, signal)) {
      for (const delta of output.add(chunk)) onDelta(i, delta);
    }
    return output.end();
  }

  /** Sampling parameters as the fields of a request. */
  #fields({ logprobs, max_tokens = 16, prediction, logits_processors: _, ...params }: SamplingParams, isChat: boolean): object {
    const asked = logprobs == null ? {} : isChat ? { logprobs: true, top_logprobs: Math.min(20, logprobs + 1) } : { logprobs };
    if (logprobs != null && !this.#isVllm) {
      throw new EmbergramError("invalid_params", `logprobs name tokens by their ids, which ${this.#server.address} does not tell; only a vLLM server does`);
    }
    // Without a limit a chat goes on to the context's end, a completion only when that is said.
    const limit = max_tokens === null ? (isChat || this.#context === undefined ? {} : { max_tokens: this.#context }) : { max_tokens };
    return { ...params, ...asked, ...limit, ...(isChat && prediction != null && { prediction: { type: "content", content: prediction } }) };
  }

  async embed(call: number, work: Work, { normalize, ...params }: PoolingParams): Promise<EmbeddingOutput[]> {
    if (this.#dead) throw this.#dead;
    if (params.pooling !== undefined && !this.#isOwn) {
      throw new EmbergramError("invalid_params", "pooling is a server's to decide: vLLM's is told --pooler-config; leave it out");
    }
    const prompts = (work as { prompts: readonly Prompt[] }).prompts;
    if (prompts.length === 0) return [];
    const abort = new AbortController();
    this.#calls.set(call, abort);
    try {
      // Of ids a server takes lists alone, of texts too, and no mixture.
      const ask = async (input: readonly Prompt[]) => {
        const lists = input.map((prompt) => (typeof prompt === "string" ? prompt : [...prompt]));
        const body = { model: this.#model, input: lists, encoding_format: "float", ...params, ...(normalize !== undefined && { use_activation: normalize }) };
        return (await this.#server.json<{ data: { embedding: number[] }[] }>("/v1/embeddings", body, abort.signal)).data;
      };
      const mixed = new Set(prompts.map((prompt) => typeof prompt === "string")).size > 1;
      const data = mixed ? (await Promise.all(prompts.map((prompt) => ask([prompt])))).flat() : await ask(prompts);
      return prompts.map((prompt, i) => ({
        prompt: typeof prompt === "string" ? prompt : null, prompt_token_ids: promptIds(prompt),
        outputs: { embedding: Float32Array.from(data[i]!.embedding) }, metrics: null,
      }));
    } catch (error) {
      throw this.#dead ?? (abort.signal.aborted ? new EmbergramError("aborted", "the call was aborted") : asEmbergramError(error));
    } finally {
      this.#calls.delete(call);
    }
  }

  async check(): Promise<void> {}

  async cancel(call: number): Promise<void> {
    this.#calls.get(call)?.abort();
  }

  async promptTokens(work: Work): Promise<number[][]> {
    const { chats, template, prompts } = work as Partial<{ chats: readonly unknown[]; template: object; prompts: readonly Prompt[] }>;
    if (chats) return Promise.all(chats.map(async (messages) => this.#tokens({ messages, ...template })));
    return Promise.all(prompts!.map(async (prompt) => (typeof prompt === "string" ? this.#tokens({ prompt }) : [...prompt])));
  }

  async tokenize(prompt: string): Promise<number[]> {
    return this.#tokens({ prompt });
  }

  async #tokens(body: object): Promise<number[]> {
    return (await this.#server.json<{ tokens: number[] }>("/tokenize", { model: this.#model, ...body })).tokens;
  }

  async detokenize(ids: readonly number[]): Promise<string> {
    return (await this.#server.json<{ prompt: string }>("/detokenize", { model: this.#model, tokens: ids })).prompt;
  }

  async tokenTexts(ids: readonly number[]): Promise<string[]> {
    return Promise.all(ids.map((id) => this.detokenize([id])));
  }

  async metricsText(): Promise<string> {
    try {
      return await (await this.#server.answer("/metrics")).text();
    } catch (error) {
      if (!(error instanceof EmbergramError) || (error.code !== "http" && error.code !== "unknown_model")) throw error;
      throw new EmbergramError("no_metrics", `the server answers, but has no metrics: ${error.message}`, { cause: error });
    }
  }

  async metrics(): Promise<Metric[]> {
    const metrics = readExposition(await this.metricsText());
    if (metrics.length === 0) throw new EmbergramError("no_metrics", `${this.#server.address}/metrics has no metric of vLLM's`);
    return metrics;
  }

  async resetMetrics(): Promise<void> {
    throw new EmbergramError("invalid_config", `a server's counters ${NOT_OURS}take the difference of two getMetrics()`);
  }

  async setSpeculativeConfig(): Promise<void> {
    throw new EmbergramError("invalid_config", `a server's speculation ${NOT_OURS}start the server with it`);
  }

  async unload(): Promise<void> {
    this.#dead = unloadedError();
    for (const abort of this.#calls.values()) abort.abort();
  }
}

function promptIds(prompt: Prompt | null): number[] {
  return prompt === null || typeof prompt === "string" ? [] : [...prompt];
}

/** What a request gave, put together from an answer or from its chunks. */
class Output {
  readonly #prompt: string | null;
  #ids: number[];
  readonly #choices: CompletionOutput[];
  readonly #top: number | null;
  readonly #start: number;
  #first: number | null = null;
  #last: number | null = null;
  #usage: Usage | undefined;
  #speculation: RequestSpeculation | null = null;
  #scores: Scores | null = null;

  constructor(prompt: string | null, ids: number[], { n = 1, logprobs }: SamplingParams, start: number) {
    this.#prompt = prompt;
    this.#ids = ids;
    this.#top = logprobs ?? null;
    this.#start = start;
    this.#choices = Array.from({ length: n }, (_, index) => ({
      index, text: "", token_ids: [], logprobs: logprobs == null ? null : [], finish_reason: null, stop_reason: null, error: null, metrics: null,
    }));
  }

  /** Adds a chunk; gives what it adds to each choice. */
  add(answer: Answer): Delta[] {
    this.#usage = answer.usage ?? this.#usage;
    this.#speculation = answer.metrics?.speculative_decoding ?? this.#speculation;
    this.#scores = answer.prompt_logprobs ?? answer.choices[0]?.prompt_logprobs ?? this.#scores;
    const ids = answer.prompt_token_ids ?? answer.choices[0]?.prompt_token_ids;
    if (ids) this.#ids = ids;
    const deltas: Delta[] = [];
    for (const choice of answer.choices) {
      const output = this.#choices[choice.index];
      if (!output) continue;
      const text = choice.text ?? choice.message?.content ?? choice.delta?.content ?? "";
      const token_ids = choice.token_ids ?? [];
      const finish_reason = finish(choice.finish_reason);
      const logprobs = output.logprobs && readLogprobs(choice.logprobs, this.#top!);
      // The role of a chat's answer is no news.
      if (text === "" && token_ids.length === 0 && finish_reason === null) continue;
      this.#last = performance.now() / 1000;
      this.#first ??= this.#last;
      output.text += text;
      output.token_ids.push(...token_ids);
      output.logprobs?.push(...logprobs!);
      Object.assign(output, { finish_reason, stop_reason: choice.stop_reason ?? null });
      deltas.push({
        index: choice.index, text, token_ids, draft_positions: token_ids.map(() => null), forced: token_ids.map(() => false), logprobs, finish_reason,
        stop_reason: output.stop_reason, error: null, metrics: null,
      });
    }
    return deltas;
  }

  end(): RequestOutput {
    const now = performance.now() / 1000;
    for (const output of this.#choices) output.metrics = this.#metrics(output, now);
    return { prompt: this.#prompt, prompt_token_ids: this.#ids, outputs: this.#choices, prompt_logprobs: this.#prompt_logprobs(), metrics: this.#choices[0]!.metrics };
  }

  /** How likely the prompt was, the token itself first. */
  #prompt_logprobs(): RequestOutput["prompt_logprobs"] {
    const steps = this.#scores?.map((step, i) => {
      const all = Object.entries(step ?? {}).map(([id, { logprob, rank }]): TokenLogprob => ({ token_id: Number(id), logprob, rank }));
      const others = all.filter(({ token_id }) => token_id !== this.#ids[i]).sort((a, b) => a.rank - b.rank);
      return step && [...all.filter(({ token_id }) => token_id === this.#ids[i]), ...others];
    });
    return steps ?? null;
  }

  /** What a client can tell: its own times, and the server's counts. */
  #metrics({ token_ids }: CompletionOutput, now: number): RequestMetrics {
    const alone = this.#choices.length === 1;
    return {
      num_prompt_tokens: this.#usage?.prompt_tokens ?? this.#ids.length,
      num_cached_tokens: this.#usage?.prompt_tokens_details?.cached_tokens ?? 0,
      num_generation_tokens: token_ids.length || (alone ? (this.#usage?.completion_tokens ?? 0) : 0),
      num_preemptions: 0, arrival_time: this.#start, queued_ts: this.#start, scheduled_ts: null,
      first_token_ts: this.#first, last_token_ts: this.#last, finished_time: now,
      first_token_latency: this.#first === null ? null : this.#first - this.#start,
      queue_time: null, prefill_time: null, inference_time: null,
      decode_time: this.#first === null || this.#last === null ? null : this.#last - this.#first,
      e2e_time: now - this.#start,
      num_forced_tokens: 0,
      num_accepted_prediction_tokens: (alone && this.#usage?.completion_tokens_details?.accepted_prediction_tokens) || 0,
      num_rejected_prediction_tokens: (alone && this.#usage?.completion_tokens_details?.rejected_prediction_tokens) || 0,
      speculative_decoding: alone ? this.#speculation : null,
    };
  }
}

/** A tool call is a stop that the text tells of. */
function finish(reason: string | null): FinishReason | null {
  return reason === null || reason === "length" || reason === "abort" || reason === "error" ? reason : "stop";
}

/** The chosen token and the most likely, as the engine tells them. Ranks are those among the tokens told. */
function readLogprobs(given: Answer["choices"][number]["logprobs"], top: number): TokenLogprob[][] {
  if (!given) return [];
  const steps: [string, number][][] =
    "tokens" in given
      ? given.tokens.map((token, i) => [[token, given.token_logprobs[i]!], ...Object.entries(given.top_logprobs[i]!)])
      : (given.content ?? []).map(({ token, logprob, top_logprobs = [] }) => [[token, logprob], ...top_logprobs.map((one): [string, number] => [one.token, one.logprob])]);
  return steps.map((step) => {
    const known = new Map(step.map(([token, logprob]) => [Number(token.slice("token_id:".length)), logprob]));
    const chosen = Number(step[0]![0].slice("token_id:".length));
    const ranked = [...known].sort(([, a], [, b]) => b - a).map(([token_id, logprob], i) => ({ token_id, logprob, rank: i + 1 }));
    const own = ranked.find(({ token_id }) => token_id === chosen)!;
    return [own, ...ranked.filter((one) => one !== own && one.rank <= top)];
  });
}
