/** The object people use: a loaded model. */
import { connect } from "./connect.js";
import { closed, connection, type ConnectOptions, type Connection, type HostApi } from "./connection.js";
import { EmbergramError, type ErrorCode } from "./error.js";
import { offerFetch } from "./fetch-port.js";
import type { LoadRequest, Work } from "./host.js";
import { serverFetch } from "./openai/fetch.js";
import { chatCompletions, completions } from "./openai/index.js";
import type { ChatCompletions, Completions } from "./openai/types.js";
import { unlessAborted } from "./patience.js";
import { withoutFunctions, type Process } from "./processors.js";
import { Queue } from "./queue.js";
import { remoteDoors, remoteFetch } from "./remote/doors.js";
import { RemoteHost } from "./remote/host.js";
import { Server, type ServerOptions } from "./remote/server.js";
import { besideModel, type DownloadOptions, type ModelInput, type NameOptions } from "./source/index.js";
import { supported } from "./supported.js";
import { tune, type TuneOptions, type TuneResult } from "./tune.js";
import type {
  BackendOptions, ChatMessage, ChatTemplateOptions, Delta, EmbeddingOutput, EngineOptions, Inspection, LoadProgress, Metric, ModelInfo, PoolingParams, Prompt, RequestOutput,
  SamplingParams,
  SpeculativeConfig, Support,
} from "./types.js";
import { VERSION } from "./version.js";

/** Options of {@link Llm.load}. */
export interface LoadOptions extends EngineOptions, BackendOptions, ConnectOptions, NameOptions, DownloadOptions {
  /** URL, file, files or `hf:` name of a model; of a split GGUF any part, or all files. */
  model: ModelInput;
  /** Where the engine's WebAssembly module is, with those of the CPU's kernels beside it; default beside the worker's script. */
  wasmUrl?: string;
  /** In place of the global fetch, to add headers, say. It is called with a URL, `Range`, and an `AbortSignal`. */
  fetch?: typeof fetch;
  /** Told of the load's progress. */
  onProgress?: (progress: LoadProgress) => void;
  /** Ends the load; it rejects at once, with code `aborted`. */
  signal?: AbortSignal;
  /**
   * Whether to load the model again, from the cache, when its device is lost: calls in flight wait and go on from their tokens, as
   * they would have, and those that come later find nothing changed. `metrics.num_preemptions` of an output tells of it, and the
   * counter `embergram:recoveries`. Default false: they reject with `device_lost`.
   */
  recover?: boolean;
  /**
   * A server that answers where nothing runs here: with `no_webgpu`, `no_simd` or `adapter_too_small`. Its address, or with what
   * {@link Llm.connect} takes. Default: none.
   */
  fallback?: string | URL | Fallback;
}

/** A server for {@link LoadOptions.fallback}. */
export interface Fallback extends Omit<ServerOptions, "signal"> {
  /** Its address. */
  url: string | URL;
}

/** Options of {@link Llm.inspect}: those of a load, as far as they matter to it. */
export type InspectOptions = Omit<LoadOptions, "model" | "onProgress" | "sha256" | "fallback" | "recover">;

/** Options of a call. */
export interface CallOptions {
  /**
   * Ends the call between two steps; it rejects with code `aborted` and name `AbortError`. Its `cause` is the signal's reason, its
   * `partial` what there was by then.
   */
  signal?: AbortSignal;
}

/** Options of a conversation. */
export interface ChatOptions extends CallOptions, ChatTemplateOptions {}

/** Answers a conversation, or several, by the model's chat template: `llm.chat(messages)`. */
export interface Chat {
  /**
   * @throws {EmbergramError} `invalid_prompt`, `prompt_too_long`, `invalid_params`, `queue_full`, `unsupported_model` (without
   * a chat template, or with one that does not parse), `aborted`, `device_lost`
   */
  (
    messages: readonly ChatMessage[] | readonly (readonly ChatMessage[])[],
    params?: SamplingParams | readonly SamplingParams[],
    options?: ChatOptions,
  ): Promise<RequestOutput[]>;
  /** The same in OpenAI's shape: `llm.chat.completions.create({ messages })`. */
  readonly completions: ChatCompletions;
}

/** What a load says where this browser or machine can run no model, or not this one. */
const NOTHING_RUNS: ReadonlySet<ErrorCode> = new Set(["no_webgpu", "no_simd", "adapter_too_small"]);

let lastCall = 0;

/** A loaded model. Calls may overlap: they share the engine's steps. */
export class Llm {
  readonly #connection: Connection;
  /** What was loaded: name, context, adapter. */
  readonly model: ModelInfo;
  /** Answers conversations, in the package's own shape or in OpenAI's. */
  readonly chat: Chat;
  /** Completes prompts in OpenAI's shape: `llm.completions.create({ prompt })`. */
  readonly completions: Completions;
  /**
   * A function of fetch's shape that answers as vLLM's OpenAI server does, at `/v1/chat/completions`, `/v1/completions`,
   * `/v1/embeddings`, `/v1/models`, `/tokenize`, `/detokenize`, `/metrics`, `/health` and `/version`, whatever the origin: clients take it in place
   * of the global one. What fails is told by a status and OpenAI's error body; an aborted call rejects as fetch does.
   *
   * @example new OpenAI({ fetch: llm.fetch, baseURL: "http://localhost/v1", apiKey: "none" })
   */
  readonly fetch: typeof fetch;
  /**
   * Resolves when the engine is lost, with the error that every later call has: its device is gone (and with `recover` the model
   * could not be loaded again), it trapped, or its worker ended. It never rejects, and stays open with `unload`. A device that is lost while nothing runs is found by the next call.
   */
  readonly lost: Promise<EmbergramError>;
  #speculativeConfig: SpeculativeConfig | null;

  private constructor(connection: Connection, model: ModelInfo, speculativeConfig: SpeculativeConfig | null, server?: Server) {
    this.#connection = connection;
    this.lost = connection.lost;
    this.model = model;
    this.#speculativeConfig = speculativeConfig;
    const door = {
      name: model.name,
      maxModelLen: model.max_model_len,
      vocabSize: model.vocab_size,
      defaults: model.defaults,
      chatTemplate: model.chat_template,
      run: this.#run.bind(this),
      embed: this.embed.bind(this),
      deltas: this.#deltas.bind(this),
      promptTokens: (work: Work) => connection.call((host) => host.promptTokens(work)),
      tokenize: this.tokenize.bind(this),
      detokenize: this.detokenize.bind(this),
      tokenTexts: (ids: readonly number[]) => connection.call((host) => host.tokenTexts(ids)),
      metricsText: this.getMetricsText.bind(this),
    };
    const chat: (...args: Parameters<Chat>) => ReturnType<Chat> = async (messages, params = {}, options = {}) =>
      this.#run(chatWork(asConversations(messages), options), params, options);
    const doors = server
      ? { ...remoteDoors(server, model.name), fetch: remoteFetch(server) }
      : { chat: chatCompletions(door), completions: completions(door), fetch: serverFetch(door) };
    this.chat = Object.assign(chat, { completions: doors.chat });
    this.completions = doors.completions;
    this.fetch = doors.fetch;
  }

  /**
   * Loads a model: its bytes stream to the GPU, or to the memory of the CPU's kernels, as they arrive.
   *
   * @throws {EmbergramError} `no_webgpu`, `no_simd`, `adapter_too_small`, `http`, `network`, `quota`, `invalid_file`,
   * `truncated_file`, `unsupported_model`, `unsupported_quantization`, `invalid_tensor`, `invalid_config`, `aborted`
   */
  static async load(options: LoadOptions): Promise<Llm> {
    const { fallback } = options;
    try {
      return await Llm.#load(options);
    } catch (error) {
      if (fallback === undefined || !(error instanceof EmbergramError) || !NOTHING_RUNS.has(error.code)) throw error;
      const { url, ...server } = typeof fallback === "string" || fallback instanceof URL ? { url: fallback } : fallback;
      return Llm.connect(url, { ...server, ...(options.signal && { signal: options.signal }) });
    }
  }

  static async #load(options: LoadOptions): Promise<Llm> {
    const { onProgress, fetch, speculative_config = null } = options;
    return inHost("the load was aborted", options, async (connection, request) => {
      const progress = onProgress && connection.callback(onProgress);
      const port = fetch && connection.callback(offerFetch(fetch));
      const info = await connection.call((host) => host.load(request, progress, port));
      return new Llm(connection, info, speculative_config);
    });
  }

  /**
   * A model of a vLLM server, or of another with OpenAI's API, behind the same object: the same calls, sampling parameters,
   * streams and metrics. What only an engine here can do is refused: `resetMetrics`, `setSpeculativeConfig`. Servers that are not
   * vLLM's tell no token ids, and have no `tokenize`. A page needs the server's leave: vLLM's `--allowed-origins`.
   *
   * @param url such as `http://localhost:8000`, with or without `/v1`
   * @throws {EmbergramError} `network` (a wrong address, or no server there), `cors`, `unauthorized`, `unknown_model`, `http`,
   * `invalid_config`, `aborted`; `getMetrics` throws `no_metrics` where the server has none
   */
  static async connect(url: string | URL, options: ServerOptions = {}): Promise<Llm> {
    const server = new Server(url, options);
    const { host, info } = await RemoteHost.connect(server, options.model, options.signal);
    return new Llm(connection(host as unknown as HostApi).connection, info, null, server);
  }

  /**
   * Tells what a model is, what a load with these options takes, and whether it runs here, by the headers of its files. Of
   * remote files only these are fetched, by a few requests with `Range`, and nothing is kept.
   *
   * @throws {EmbergramError} `http`, `network`, `invalid_config`, `aborted`. What is wrong with the model, or is missing here, is
   * no error but the result's `reason`.
   */
  static async inspect(model: ModelInput, options: InspectOptions = {}): Promise<Inspection> {
    const { fetch } = options;
    let opened: Connection | undefined;
    try {
      return await inHost("the inspection was aborted", { ...options, model }, async (connection, request) => {
        opened = connection;
        const port = fetch && connection.callback(offerFetch(fetch));
        return connection.call((host) => host.inspect(request, port));
      });
    } finally {
      void opened?.close();
    }
  }

  /** Whether models run in this browser, on which adapter, and how large they may be. Never throws. */
  static supported(): Promise<Support> {
    return supported();
  }

  /**
   * Completes prompts, in shared steps. One prompt or many; one set of parameters, or one for each.
   *
   * @throws {EmbergramError} `invalid_prompt`, `prompt_too_long`, `invalid_params`, `queue_full`, `aborted`, `device_lost`
   */
  async generate(
    prompts: Prompt | readonly Prompt[],
    params: SamplingParams | readonly SamplingParams[] = {},
    options: CallOptions = {},
  ): Promise<RequestOutput[]> {
    return this.#run({ prompts: asPrompts(prompts) }, params, options);
  }

  /**
   * Embeddings of prompts, as vLLM's `LLM.embed` makes them of any model: its hidden states, pooled. They are computed in shared
   * steps with whatever else is in flight, and an embedding's bits do not depend on that.
   *
   * @throws {EmbergramError} as {@link Llm.generate}; `corrupted_logits`
   */
  async embed(prompts: Prompt | readonly Prompt[], params: PoolingParams = {}, options: CallOptions = {}): Promise<EmbeddingOutput[]> {
    const work = { prompts: asPrompts(prompts) };
    return abortable(this.#connection, options.signal, (host, id) => host.embed(id, work, withoutUndefined(params)));
  }

  /** Completes a prompt, step by step. Leaving the loop aborts the request. */
  stream(prompt: Prompt, params: SamplingParams = {}, options: CallOptions = {}): AsyncGenerator<Delta, RequestOutput> {
    return this.#stream({ prompts: [prompt] }, params, options);
  }

  /** Answers a conversation, step by step. Leaving the loop aborts the request. */
  chatStream(
    messages: readonly ChatMessage[],
    params: SamplingParams = {},
    options: ChatOptions = {},
  ): AsyncGenerator<Delta, RequestOutput> {
    return this.#stream(chatWork([messages], options), params, options);
  }

  /**
   * The token ids of a text, special tokens added as the model wants.
   *
   * @throws {EmbergramError} `prompt_too_long` for more than 1 MiB of UTF-8, or than a prompt may have where that is more
   */
  async tokenize(text: string): Promise<number[]> {
    return this.#connection.call((host) => host.tokenize(text));
  }

  /**
   * How many tokens a text takes, or a conversation with the model's chat template.
   *
   * @throws {EmbergramError} as {@link Llm.tokenize} and {@link Chat}
   */
  async countTokens(input: string | readonly ChatMessage[], options: ChatTemplateOptions = {}): Promise<number> {
    const work = typeof input === "string" ? { prompts: [input] } : chatWork([input], options);
    const [tokens] = await this.#connection.call((host) => host.promptTokens(work));
    return tokens!.length;
  }

  /**
   * The prompt that the chat template makes of a conversation: its token ids, and what they read as.
   *
   * @throws {EmbergramError} as {@link Chat}
   */
  async applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): Promise<{ prompt: string; prompt_token_ids: number[] }> {
    const [ids] = await this.#connection.call((host) => host.promptTokens(chatWork([messages], options)));
    return { prompt: await this.detokenize(ids!), prompt_token_ids: ids! };
  }

  /**
   * The text of token ids, special tokens included. Where the tokenizer puts a space before a text (Llama 2, Mistral 7B),
   * that space is taken away again, as in vLLM's `get_tokenizer().decode`.
   */
  async detokenize(ids: readonly number[]): Promise<string> {
    return this.#connection.call((host) => host.detokenize(ids));
  }

  /** All metrics, in the shape of vLLM's `LLM.get_metrics()`. */
  async getMetrics(): Promise<Metric[]> {
    return this.#connection.call((host) => host.metrics());
  }

  /** The same as Prometheus text exposition. */
  async getMetricsText(): Promise<string> {
    return this.#connection.call((host) => host.metricsText());
  }

  /** Sets every counter back to zero. */
  async resetMetrics(): Promise<void> {
    return this.#connection.call((host) => host.resetMetrics());
  }

  /** Speculation for the requests that come; `null` for none. The model stays loaded. */
  async setSpeculativeConfig(config: SpeculativeConfig | null): Promise<void> {
    await this.#connection.call((host) => host.setSpeculativeConfig(config));
    this.#speculativeConfig = config;
  }

  /** The speculation that was loaded with or last set; `null` is none. */
  get speculativeConfig(): SpeculativeConfig | null {
    return this.#speculativeConfig;
  }

  /**
   * Runs the prompts under each of several speculation settings (`null` is none) and recommends one. The settings take
   * turns, after a warm-up; counters are not reset, and the setting in force is set again at the end, however it ends.
   * Let no other requests run meanwhile.
   *
   * @param params as for `generate`; the more tokens, the surer the result
   * @throws {EmbergramError} as `generate`; `invalid_config` for a setting
   */
  async tune(
    prompts: Prompt | readonly Prompt[],
    configs: readonly (SpeculativeConfig | null)[],
    params: SamplingParams = {},
    options: TuneOptions = {},
  ): Promise<TuneResult> {
    return tune(this, asPrompts(prompts), configs, params, options);
  }

  /**
   * Frees the model and its worker; calls in flight, and calls that come later, reject with code `aborted`. It takes a few
   * seconds at most, whatever hangs.
   */
  async unload(): Promise<void> {
    await this.#connection.close();
  }

  /** `unload`, at the end of an `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.unload();
  }

  async #run(
    work: Work,
    params: SamplingParams | readonly SamplingParams[],
    { signal }: CallOptions,
  ): Promise<RequestOutput[]> {
    const [plain, process] = this.#crossing(params);
    return abortable(this.#connection, signal, (host, id) => host.run(id, work, plain, undefined, process));
  }

  /** Parameters as they cross to the host, and what it calls for the functions among them. */
  #crossing<P extends SamplingParams | readonly SamplingParams[]>(given: P): [params: P, process: Process | undefined] {
    const { params, process } = withoutFunctions(given);
    return [params, process && this.#connection.callback(process)];
  }

  async *#stream(work: Work, params: SamplingParams, options: CallOptions): AsyncGenerator<Delta, RequestOutput> {
    const deltas = this.#deltas(work, params, options);
    try {
      for (;;) {
        const next = await deltas.next();
        if (next.done) return next.value[0]!;
        yield next.value[1];
      }
    } finally {
      await deltas.return([]);
    }
  }

  /** Each delta with the prompt it belongs to. */
  async *#deltas(
    work: Work,
    params: SamplingParams,
    { signal }: CallOptions,
  ): AsyncGenerator<[prompt: number, delta: Delta], RequestOutput[]> {
    const deltas = new Queue<[number, Delta]>();
    const stop = new AbortController();
    const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
    const onDelta = this.#connection.callback((prompt: number, delta: Delta) => deltas.push([prompt, delta]));
    const [plain, process] = this.#crossing(params);
    const done = abortable(this.#connection, either, (host, id) => host.run(id, work, plain, onDelta, process));
    done.then(() => deltas.end(), (error) => deltas.end(error));
    try {
      yield* deltas;
      return await done;
    } finally {
      stop.abort();
    }
  }
}

/** Connects to a host, and asks something of a model of it that `signal` ends. Where that fails, the host goes. */
export async function inHost<T>(
  aborting: string,
  options: LoadOptions,
  ask: (connection: Connection, request: LoadRequest) => Promise<T>,
): Promise<T> {
  const {
    worker, workerUrl, wasmUrl, onProgress, signal, model, fetch, cache, cacheKey, sha256, hfEndpoint, retries, retryDelay,
    timeout, baseUrl = globalThis.location?.href, backend, threads, fallback, recover, ...engine
  } = options;
  if (!isModel(model)) {
    throw new EmbergramError("invalid_config", "model is missing; give an address, an hf: name, a File or a Blob, or a folder's files");
  }
  if (recover !== undefined && typeof recover !== "boolean") {
    throw new EmbergramError("invalid_config", `recover is ${JSON.stringify(recover)}, but must be true or false`);
  }
  const aborted = () => new EmbergramError("aborted", aborting, { cause: signal?.reason });
  if (signal?.aborted) throw aborted();
  // A URL and a FileList do not cross to a worker, nor everywhere does the place of a File in its folder.
  const text = <T>(value: T | URL) => (value instanceof URL ? value.href : value);
  const crossing = typeof model === "string" || model instanceof URL || model instanceof Blob ? text(model) : besideModel([...model]);
  const connecting = closed().then(() => connect(options));
  const work = async () => {
    const connection = await connecting;
    const { wasm } = connection;
    const request = withoutUndefined({
      model: crossing, engine, version: VERSION, wasmUrl, wasm, cache, cacheKey, sha256, hfEndpoint: text(hfEndpoint),
      baseUrl: text(baseUrl), retries, retryDelay, timeout, backend, threads, recover,
    });
    return ask(connection, request);
  };
  try {
    return await unlessAborted(work(), signal, aborted);
  } catch (error) {
    // Whatever it waits for: a script, an adapter, bytes.
    void connecting.then((connection) => connection.close(), () => {});
    throw error;
  }
}

/** Runs a call of the host that `signal` ends. */
async function abortable<T>(
  connection: Connection,
  signal: AbortSignal | undefined,
  start: (host: HostApi, id: number) => Promise<T>,
): Promise<T> {
  if (signal?.aborted) throw new EmbergramError("aborted", "the call was aborted before it began", { cause: signal.reason });
  const id = ++lastCall;
  const cancel = () => void connection.call((host) => host.cancel(id)).catch(() => {});
  signal?.addEventListener("abort", cancel);
  try {
    return await connection.call((host) => start(host, id));
  } catch (error) {
    if (!signal?.aborted || !(error instanceof EmbergramError) || error.code !== "aborted") throw error;
    throw new EmbergramError("aborted", error.message, { cause: signal.reason, partial: error.partial });
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
}

function isModel(model: unknown): boolean {
  if (typeof model === "string" || model instanceof URL || model instanceof Blob) return true;
  const several = Array.isArray(model) || ("FileList" in globalThis && model instanceof FileList);
  return several && model.length > 0 && [...model].every((file) => file instanceof Blob);
}

function asPrompts(prompts: Prompt | readonly Prompt[]): readonly Prompt[] {
  if (typeof prompts === "string" || prompts instanceof Uint32Array) return [prompts];
  if (Array.isArray(prompts)) return typeof prompts[0] === "number" ? [prompts as number[]] : (prompts as Prompt[]);
  throw new EmbergramError("invalid_prompt", "give a prompt (a string, or an array of token ids) or an array of prompts");
}

function chatWork(chats: readonly (readonly ChatMessage[])[], { signal: _, ...template }: ChatOptions): Work {
  return { chats, template: withoutUndefined(template) };
}

function asConversations(
  messages: readonly ChatMessage[] | readonly (readonly ChatMessage[])[],
): readonly (readonly ChatMessage[])[] {
  if (!Array.isArray(messages)) {
    throw new EmbergramError("invalid_prompt", "give a conversation: an array of messages, each with role and content");
  }
  return Array.isArray(messages[0]) ? messages : [messages];
}

/** Values that were left out must not arrive as keys. */
function withoutUndefined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as never;
}
