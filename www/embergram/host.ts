/**
 * The engine's host: owns the WebAssembly engine and runs its step loop. It lives in the package's worker, or with
 * `worker: false` where the caller is. Requests of all callers share the steps.
 */
import { choose, open as openBackend, optionsFor } from "./backend.js";
import { build, type Built } from "./build.js";
import type { Engine } from "./engine/engine.js";
import { EmbergramError, asEmbergramError, unloadedError } from "./error.js";
import { fetchThrough, type FetchPort } from "./fetch-port.js";
import { Grammars } from "./grammar.js";
import { inspect } from "./inspect.js";
import { startModule, type ModuleOptions, type Modules } from "./module.js";
import { startOwn } from "./own.js";
import type { Process } from "./processors.js";
import { atMost, nextTask, sleep, unlessAborted } from "./patience.js";
import { forget } from "./remember.js";
import { complaint, WrongKernel, wrongKernel } from "./known-answer.js";
import { warmUp } from "./row-check.js";
import { release } from "./rpc.js";
import { supported } from "./supported.js";
import { keptModels, openHeads, openModel, RestartLoad, type DownloadOptions, type ModelInput, type ModelPart, type NameOptions } from "./source/index.js";
import type {
  BackendOptions, ChatMessage, ChatTemplateOptions, CompletionOutput, Delta, EmbeddingOutput, EngineOptions, FinishReason, Inspection, LoadProgress,
  Metric, ModelInfo, OutputError, PoolingParams, Prompt, RequestMetrics, RequestOutput, SamplingParams, SpeculativeConfig, TokenLogprob,
} from "./types.js";
import { checkVersions, VERSION } from "./version.js";

/** What `load` needs beside the engine's options. */
export interface LoadRequest extends BackendOptions, NameOptions, DownloadOptions {
  /** URL, file, files or `hf:` name of a model; of a split GGUF any part, or all files. */
  model: ModelInput;
  engine: EngineOptions;
  /** Whether to load it again after its device was lost. */
  recover?: boolean;
  /** The caller's. */
  version: string;
  /** Where the engine's WebAssembly module is, with those of the CPU's kernels beside it; default beside this script. */
  wasmUrl?: string;
  /** The modules themselves, in place of an address. */
  wasm?: Modules;
}

/** Prompts of one call: texts or ids, or conversations for the model's template and what else that gets. */
export type Work =
  | { prompts: readonly Prompt[] }
  | { chats: readonly (readonly ChatMessage[])[]; template: ChatTemplateOptions };

/** An engine that may run. */
interface Ready {
  built: Built;
  modules: ModuleOptions;
  /** What a row check is remembered by that should be repeated at leisure. */
  doubted: string | undefined;
}

/** Makes the engine of a load anew. */
type Again = (signal: AbortSignal) => Promise<Ready>;

/** Told of every delta: which prompt of the call, and what was added. */
export type OnDelta = (prompt: number, delta: Delta) => unknown;

/** What one step added to a sequence, as the engine gives it. */
interface SequenceOutput {
  id: number;
  text: string;
  token_ids: number[];
  draft_positions: (number | null)[];
  forced: boolean[];
  /** Null too where a sequence ends without a token. */
  logprobs: TokenLogprob[][] | null;
  prompt_logprobs: TokenLogprob[][] | null;
  finish_reason: FinishReason | null;
  stop_reason: number | string | null;
  error: OutputError | null;
  embedding?: number[];
  metrics: RequestMetrics | null;
}

/** What {@link Process} is told beside the prompt. */
type Row = Parameters<Process> extends [number, ...infer Rest] ? Rest : never;

/** Puts a prompt into the engine's queue; gives its tokens, cut where that is asked for, and the ids of its sequences. */
type Enqueue = (engine: Engine, tokens: number[], prompt: number) => { tokens: number[]; ids: number[]; logprobs: boolean };

interface Call {
  outputs: RequestOutput[];
  embeddings: number[][];
  sequences: number[];
  open: number;
  onDelta: OnDelta | undefined;
  /** Settles when the last delta has arrived, where that takes time. */
  told: unknown;
  resolve(): void;
  reject(error: EmbergramError): void;
}

/** Milliseconds that tokenizing may hold up the steps of others. */
const TURN = 8;
/** Milliseconds that an unload waits for a step or a load to end. */
const PATIENCE = 2000;
/** Milliseconds without a call after which the engine has time for itself. */
const IDLE = 5000;
/** Devices that may be lost one after another without a step in between. */
const MOST_LOST = 3;

export class EngineHost {
  #built: Built | undefined;
  /** Where the modules are, and what compiles grammars, once a request has had one. */
  #modules: ModuleOptions = {};
  #grammars: Promise<Grammars> | undefined;
  /** The step under way; nothing else may touch the engine meanwhile. */
  #step: Promise<unknown> | undefined;
  #looping = false;
  #calls = new Map<number, Call>();
  /** What `cancel` reaches: calls, from their first moment on. */
  #aborts = new Map<number, AbortController>();
  /** Where each sequence in flight belongs: its call, prompt and index. */
  #sequences = new Map<number, { call: number; prompt: number; index: number }>();
  /** What ends a load, and the load. */
  #loading = new Map<AbortController, Promise<unknown>>();
  /** Set when the engine trapped or lost its device, or was unloaded: every later call fails with it. */
  #dead: EmbergramError | undefined;
  /** Loads the model again, where a lost device is to be replaced, and how many were lost since the last step. */
  #again: Again | undefined;
  #lost = 0;
  /** Calls so far. */
  #uses = 0;

  /** Loads a model. A load that fails leaves the host as it was. */
  async load(
    request: LoadRequest,
    onProgress?: (progress: LoadProgress) => void,
    fetchPort?: FetchPort,
  ): Promise<ModelInfo> {
    const abort = new AbortController();
    const loading = this.#ready(request, abort.signal, onProgress, fetchPort);
    this.#loading.set(abort, loading);
    try {
      const ready = await loading;
      const info = ready.built.engine.info() as Omit<ModelInfo, "adapter">;
      if (request.recover) {
        this.#again = (signal) => this.#ready(request, signal, undefined, fetchPort);
        ready.built.engine.setRecover(true);
      }
      this.#take(ready);
      return { ...info, adapter: ready.built.opened.adapter };
    } catch (error) {
      const failure = asEmbergramError(error);
      const { model, engine, ...open } = request;
      // A file that is no whole model must not come out of the cache when the server's has been mended.
      const damaged = failure.code === "invalid_file" || failure.code === "truncated_file";
      if (damaged && (typeof model === "string" || model instanceof URL)) await keptModels.delete(model, open).catch(() => {});
      throw failure;
    } finally {
      this.#loading.delete(abort);
      release(onProgress);
      if (!this.#again) release(fetchPort);
    }
  }

  #take({ built, modules, doubted }: Ready): void {
    if (built.opened.adapter.wrong_kernel !== undefined) built.engine.setWrongKernel();
    this.#built = built;
    this.#modules = modules;
    if (doubted !== undefined) void this.#checkAgain(built.engine, doubted);
  }

  async #ready(
    request: LoadRequest,
    signal: AbortSignal,
    onProgress: ((progress: LoadProgress) => void) | undefined,
    fetchPort: FetchPort | undefined,
  ): Promise<Ready> {
    const { model, engine: options, version, wasmUrl, wasm, backend, threads, recover, ...open } = request;
    onProgress?.({ phase: "gpu", loaded: 0 });
    checkVersions("the package's index.js", version, "the engine's script (worker.js, host.js)", VERSION);
    const modules = { wasmUrl, wasm, timeout: open.timeout };
    await startModule(modules);
    signal.throwIfAborted();
    const support = await supported();
    const chosen = choose({ backend, threads }, support);
    let last: LoadProgress = { phase: "download", loaded: 0 };
    const source = await openModel(model, {
      ...open,
      ...(fetchPort && { fetch: fetchThrough(fetchPort) }),
      signal,
      onProgress: (progress) => onProgress?.((last = progress)),
    });
    const own = optionsFor(chosen, { backend }, support, options);
    const named = source.name === undefined ? own : { served_model_name: source.name, ...own };
    const opening = () => openBackend(chosen, { threads }, support, modules, startOwn);
    const built = await build(source, named, opening, () => onProgress?.({ ...last, phase: "build" }));
    const distrusted = support.webgpu_adapter?.wrong_kernel;
    if (chosen === "cpu" && backend !== "cpu" && distrusted !== undefined) built.opened.adapter.wrong_kernel = distrusted;
    try {
      await nextTask();
      signal.throwIfAborted();
      const { adapter } = built.opened;
      const wrong = await wrongKernel(built.engine, adapter);
      if (wrong !== undefined) throw new EmbergramError("no_webgpu", complaint(adapter, wrong), { cause: new WrongKernel(wrong) });
      const doubted = await warmUp(built.engine, adapter);
      signal.throwIfAborted();
      onProgress?.({ ...last, phase: "ready" });
      return { built, modules, doubted };
    } catch (error) {
      free(built);
      const wrong = error instanceof EmbergramError && error.cause instanceof WrongKernel ? error.cause.message : undefined;
      if (wrong === undefined || backend === "webgpu" || !support.cpu.simd) throw error;
      console.warn(`embergram: ${(error as Error).message}; the model is loaded again for the CPU`);
      const ready = await this.#ready({ ...request, backend: "cpu" }, signal, onProgress, fetchPort);
      ready.built.opened.adapter.wrong_kernel = wrong;
      return ready;
    }
  }

  /** Loads the model again, its device being lost; what is in flight goes on. */
  async #recover(again: Again): Promise<void> {
    const { engine, opened } = this.#built!;
    opened.close();
    const abort = new AbortController();
    const loading = again(abort.signal);
    this.#loading.set(abort, loading);
    try {
      const ready = await loading;
      engine.takeOver(ready.built.engine);
      this.#take({ ...ready, built: { engine, opened: ready.built.opened } });
    } finally {
      this.#loading.delete(abort);
    }
  }

  /** One step, or another device for the next. */
  async #stepOf(engine: Engine): Promise<SequenceOutput[]> {
    try {
      const outputs: SequenceOutput[] = await engine.step();
      this.#lost = 0;
      return outputs;
    } catch (error) {
      if (!this.#again || !isLost(error) || this.#dead || ++this.#lost > MOST_LOST) throw error;
      console.warn(`embergram: ${(error as Error).message}; since recover is true, that is done now, and calls go on`);
      try {
        await this.#recover(this.#again);
      } catch (failed) {
        const message = `the GPU device was lost, and the model could not be loaded again: ${(failed as Error).message}`;
        throw new EmbergramError("device_lost", message, { cause: failed });
      }
      return [];
    }
  }

  /** Brings a model into the cache; loads nothing. Gives the bytes of its files. */
  async download(request: LoadRequest, onProgress?: (progress: LoadProgress) => void, fetchPort?: FetchPort): Promise<number> {
    const abort = new AbortController();
    const { model, engine, version, wasmUrl, wasm, backend, threads, ...open } = request;
    const work = async () => {
      checkVersions("the package's index.js", version, "the engine's script (worker.js, host.js)", VERSION);
      const fetch = fetchPort && { fetch: fetchThrough(fetchPort) };
      const source = await openModel(model, { ...open, ...fetch, cache: true, signal: abort.signal, onProgress: (progress) => onProgress?.(progress) });
      let bytes = 0;
      for (const part of [...source.files, ...source.parts]) bytes += await read(part);
      return bytes;
    };
    const working = work();
    this.#loading.set(abort, working);
    try {
      return await working;
    } catch (error) {
      throw asEmbergramError(error);
    } finally {
      this.#loading.delete(abort);
      release(onProgress);
      release(fetchPort);
    }
  }

  /** Tells what a model is by its headers; loads nothing. */
  async inspect({ model, engine, version, wasmUrl, wasm, backend, threads, ...open }: LoadRequest, fetchPort?: FetchPort): Promise<Inspection> {
    const abort = new AbortController();
    const work = async () => {
      checkVersions("the package's index.js", version, "the engine's script (worker.js, host.js)", VERSION);
      await startModule({ wasmUrl, wasm, timeout: open.timeout });
      const heads = () => openHeads(model, { ...open, ...(fetchPort && { fetch: fetchThrough(fetchPort) }), signal: abort.signal });
      return inspect(heads, engine, { backend, threads }, await supported());
    };
    const working = work();
    this.#loading.set(abort, working);
    try {
      return await working;
    } catch (error) {
      throw asEmbergramError(error);
    } finally {
      this.#loading.delete(abort);
      release(fetchPort);
    }
  }

  /** Rejects where the engine is of no more use. */
  async check(): Promise<void> {
    if (this.#dead) throw this.#dead;
  }

  /**
   * Runs prompts to their ends, in shared steps with whatever else is in flight. When one is refused, none runs.
   * `call` is the caller's own number, for {@link cancel}. Logits go through `process`, where it is given.
   */
  async run(
    call: number,
    work: Work,
    params: SamplingParams | readonly SamplingParams[],
    onDelta?: OnDelta,
    process?: Process,
  ): Promise<RequestOutput[]> {
    const enqueue: Enqueue = (engine, tokens, prompt) => {
      const given = Array.isArray(params) ? params[prompt] : params;
      const { truncate_prompt_tokens, logits_processors: _, ...own } = checked(given, "sampling parameters", "{ max_tokens: 64 }") as SamplingParams;
      const kept = truncated(tokens, truncate_prompt_tokens, engine);
      return { tokens: kept, ids: engine.add(kept, own, process && ((...row: Row) => process(prompt, ...row))) as number[], logprobs: own.logprobs != null };
    };
    const before = async (prompts: number, signal: AbortSignal) => {
      if (Array.isArray(params) && params.length !== prompts) {
        throw new EmbergramError(
          "invalid_params",
          `there are ${params.length} sets of sampling parameters for ${prompts} prompts; give one, or one a prompt`,
        );
      }
      if (![params].flat().some((own) => own?.structured_outputs != null)) return;
      await unlessAborted(this.#compiler(), signal, () => signal.reason as EmbergramError);
    };
    try {
      return (await this.#call(call, work, enqueue, { before, onDelta })).outputs;
    } finally {
      release(process);
    }
  }

  /** Embeddings of prompts, in shared steps; otherwise as {@link run}. */
  async embed(call: number, work: Work, params: PoolingParams): Promise<EmbeddingOutput[]> {
    const enqueue: Enqueue = (engine, tokens) => {
      const { truncate_prompt_tokens, ...own } = checked(params, "pooling parameters", '{ pooling: "mean" }') as PoolingParams;
      const kept = truncated(tokens, truncate_prompt_tokens, engine, 0);
      return { tokens: kept, ids: [engine.addPooling(kept, own)], logprobs: false };
    };
    const { outputs, embeddings } = await this.#call(call, work, enqueue);
    return outputs.map(({ prompt, prompt_token_ids, outputs: [output], metrics }, i) => {
      if (output!.error) throw new EmbergramError(output!.error.code, output!.error.message);
      return { prompt, prompt_token_ids, outputs: { embedding: Float32Array.from(embeddings[i]!) }, metrics };
    });
  }

  /** Queues the prompts of a call, once `before` has done what they need, and waits for their ends. */
  async #call(
    call: number,
    work: Work,
    enqueue: Enqueue,
    { before, onDelta }: { before?: (prompts: number, signal: AbortSignal) => Promise<void>; onDelta?: OnDelta | undefined } = {},
  ): Promise<Call> {
    const abort = new AbortController();
    this.#aborts.set(call, abort);
    let entry: Call | undefined;
    try {
      const prompts = await this.#tokenized(work, abort.signal);
      await before?.(prompts.length, abort.signal);
      const engine = await this.#free();
      abort.signal.throwIfAborted();
      const added = (entry = this.#add(engine, call, prompts, enqueue, onDelta));
      if (added.sequences.length === 0) return added;
      return await new Promise<Call>((resolve, reject) => {
        this.#calls.set(call, Object.assign(added, { resolve: () => resolve(added), reject }));
        // Where the engine is gone, so is the call.
        abort.signal.addEventListener("abort", () => void this.#abort(call).catch(() => {}));
        void this.#loop();
      });
    } catch (error) {
      throw asEmbergramError(error);
    } finally {
      this.#aborts.delete(call);
      // Deltas cross by a port of their own, and nothing orders two ports: the end waits until the last has arrived.
      if (!abort.signal.aborted) await entry?.told;
      release(onDelta);
    }
  }

  /** The prompts of a call as ids, and the text where it was text. Others' steps run in between. */
  async #tokenized(work: Work, signal: AbortSignal): Promise<[text: string | null, tokens: number[]][]> {
    const prompts: [string | null, number[]][] = [];
    const tokenize = (engine: Engine, i: number): [string | null, Iterable<number>] => {
      if ("chats" in work) return [null, engine.chatPrompt(work.chats[i], work.template)];
      const prompt = work.prompts[i];
      return typeof prompt === "string" ? [prompt, engine.promptTokens(prompt)] : [null, checkedIds(prompt)];
    };
    const count = ("chats" in work ? work.chats : work.prompts).length;
    for (let i = 0, end = 0; i < count; i++) {
      if (performance.now() > end) {
        if (i > 0) await nextTask();
        await this.#free();
        end = performance.now() + TURN;
      }
      signal.throwIfAborted();
      const [text, tokens] = await this.#use((engine) => tokenize(engine, i));
      prompts.push([text, [...tokens]]);
    }
    return prompts;
  }

  /** Gives the engine what compiles grammars, where it has none that works. */
  async #compiler(): Promise<void> {
    const opened = await this.#grammars?.catch(() => undefined);
    if (opened && !opened.dead) return;
    opened?.close();
    const open = async () => {
      const grammars = await Grammars.open(await this.#use((engine) => engine.words()), this.#modules);
      await this.#use((engine) => engine.setGrammars(grammars));
      return grammars;
    };
    const opening = (this.#grammars = open());
    try {
      await opening;
    } catch (error) {
      if (this.#grammars === opening) this.#grammars = undefined;
      throw error;
    }
  }

  #add(
    engine: Engine,
    call: number,
    prompts: readonly [text: string | null, tokens: number[]][],
    enqueue: Enqueue,
    onDelta: OnDelta | undefined,
  ): Call {
    const entry: Call = {
      outputs: [], embeddings: [], sequences: [], open: 0, onDelta, told: undefined, resolve: () => {}, reject: () => {},
    };
    try {
      prompts.forEach(([prompt, given], i) => {
        const { tokens, ids, logprobs } = enqueue(engine, given, i);
        const outputs = ids.map((id, index): CompletionOutput => {
          entry.sequences.push(id);
          this.#sequences.set(id, { call, prompt: i, index });
          return {
            index, text: "", token_ids: [], logprobs: logprobs ? [] : null, finish_reason: null, stop_reason: null,
            error: null, metrics: null,
          };
        });
        entry.outputs.push({
          prompt, prompt_token_ids: tokens, outputs, prompt_logprobs: null, metrics: null,
        });
      });
    } catch (error) {
      for (const id of entry.sequences) this.#drop(engine, id);
      throw this.#mark(error);
    }
    entry.open = entry.sequences.length;
    return entry;
  }

  /** Ends a call between two steps; it rejects with code `aborted`. Others go on. */
  async cancel(id: number): Promise<void> {
    this.#aborts.get(id)?.abort(new EmbergramError("aborted", "the call was aborted"));
  }

  async #abort(call: number): Promise<void> {
    const engine = await this.#free();
    const entry = this.#calls.get(call);
    if (!entry) return;
    this.#calls.delete(call);
    for (const id of entry.sequences) this.#drop(engine, id);
    entry.reject(new EmbergramError("aborted", "the call was aborted", { partial: entry.outputs }));
  }

  /** The token ids of a call's prompts, which do not run. */
  async promptTokens(work: Work): Promise<number[][]> {
    const prompts = await this.#tokenized(work, new AbortController().signal);
    return prompts.map(([, tokens]) => tokens);
  }

  async tokenize(text: string): Promise<number[]> {
    return this.#use((engine) => [...engine.tokenize(text)]);
  }

  async detokenize(ids: readonly number[]): Promise<string> {
    return this.#use((engine) => engine.detokenize(Uint32Array.from(ids)));
  }

  /** The text of each token by itself, special tokens included. */
  async tokenTexts(ids: readonly number[]): Promise<string[]> {
    return this.#use((engine) => ids.map((id) => engine.detokenize(Uint32Array.of(id))));
  }

  async metrics(): Promise<Metric[]> {
    return this.#use((engine) => engine.metrics() as Metric[]);
  }

  async metricsText(): Promise<string> {
    return this.#use((engine) => engine.metricsText());
  }

  async resetMetrics(): Promise<void> {
    return this.#use((engine) => engine.resetMetrics());
  }

  async setSpeculativeConfig(config: SpeculativeConfig | null): Promise<void> {
    return this.#use((engine) => engine.setSpeculativeConfig(config));
  }

  /** Frees the engine and its device; loads and requests in flight are aborted, later ones refused. */
  async unload(): Promise<void> {
    const unloaded = (this.#dead = unloadedError());
    for (const abort of this.#loading.keys()) abort.abort(unloaded);
    // A step that never ends, a script that never comes, do not hold this up.
    await atMost(PATIENCE, Promise.allSettled([this.#rest(), ...this.#loading.values()]));
    this.#rejectAll(unloaded);
    const built = this.#built;
    this.#built = undefined;
    if (built) free(built, this.#rest());
    void this.#rest().then(() => this.#grammars).then((grammars) => grammars?.close(), () => {});
  }

  /** Waits for the end of the step under way. */
  async #rest(): Promise<void> {
    while (this.#step) await this.#step.then(() => {}, () => {});
  }

  /** The engine, when no step is under way. */
  async #free(): Promise<Engine> {
    this.#uses += 1;
    await this.#rest();
    if (this.#dead) throw this.#dead;
    if (!this.#built) throw new EmbergramError("internal", "no model is loaded; call load first");
    return this.#built.engine;
  }

  /** Uses the engine between two steps. */
  async #use<T>(f: (engine: Engine) => T): Promise<T> {
    const engine = await this.#free();
    try {
      return f(engine);
    } catch (error) {
      throw this.#mark(error);
    }
  }

  /** Lets something have the engine for itself until it ends. */
  async #exclusive<T>(work: Promise<T>): Promise<T> {
    this.#step = work;
    return work.finally(() => (this.#step = undefined));
  }

  /**
   * Repeats the row check that a remembered answer stood for, a tile at a time, while nobody wants anything of the engine:
   * who comes meanwhile waits for one tile at most. An answer that no longer holds is forgotten.
   */
  async #checkAgain(engine: Engine, key: string): Promise<void> {
    try {
      let single: boolean | undefined;
      for (let idle = false; single === undefined; ) {
        const uses = this.#uses;
        await (idle ? nextTask() : sleep(IDLE));
        if (this.#dead) return;
        idle = uses === this.#uses && !this.#looping && !this.#step;
        if (idle) single = await this.#exclusive(engine.checkAgain());
      }
      if (single) await forget(key);
    } catch (error) {
      // Without a call there is nothing to go on with: the next finds it.
      if (this.#again && isLost(error)) return;
      this.#rejectAll(this.#mark(error));
    }
  }

  #drop(engine: Engine, id: number): void {
    this.#sequences.delete(id);
    try {
      engine.abort(id);
    } catch {
      // It trapped: nothing is in flight there.
    }
  }

  /** Ends every call in flight; their sequences are gone, or go with the engine. */
  #rejectAll(error: EmbergramError): void {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    this.#sequences.clear();
    for (const call of calls) call.reject(error);
  }

  async #loop(): Promise<void> {
    if (this.#looping) return;
    this.#looping = true;
    try {
      for (;;) {
        // Whoever calls in this turn, or waited for the last step, comes in first: a step holds the engine.
        await nextTask();
        const engine = this.#built?.engine;
        if (!engine?.isBusy()) break;
        const outputs = await this.#exclusive(this.#stepOf(engine));
        for (const output of outputs) this.#deliver(output);
      }
    } catch (error) {
      this.#rejectAll(this.#mark(error));
    } finally {
      this.#looping = false;
    }
  }

  #deliver(added: SequenceOutput): void {
    const place = this.#sequences.get(added.id);
    const call = place && this.#calls.get(place.call);
    const request = call?.outputs[place!.prompt];
    const output = request?.outputs[place!.index];
    if (!place || !call || !request || !output) return;
    output.text += added.text;
    output.token_ids.push(...added.token_ids);
    output.logprobs?.push(...(added.logprobs ?? []));
    output.finish_reason = added.finish_reason;
    output.stop_reason = added.stop_reason;
    output.error = added.error;
    output.metrics = added.metrics;
    if (added.embedding) call.embeddings[place.prompt] = added.embedding;
    if (place.index === 0) request.metrics = added.metrics;
    const { id, logprobs, prompt_logprobs: scores, ...delta } = added;
    // Nothing comes before the first token.
    const prompt_logprobs = scores && [null, ...scores];
    if (prompt_logprobs) request.prompt_logprobs = prompt_logprobs;
    call.told = call.onDelta?.(place.prompt, {
      index: place.index, ...delta, logprobs: output.logprobs && (logprobs ?? []), ...(prompt_logprobs && { prompt_logprobs }),
    });
    if (added.finish_reason === null) return;
    this.#sequences.delete(id);
    call.open -= 1;
    if (call.open > 0) return;
    this.#calls.delete(place.call);
    call.resolve();
  }

  /** The error as ours; one by which the engine says that it is of no more use is remembered. */
  #mark(error: unknown): EmbergramError {
    const { code } = Object(error) as Partial<EmbergramError>;
    const marked = asEmbergramError(error);
    if (code === "device_lost" || code === "internal") this.#dead ??= marked;
    return marked;
  }
}

function isLost(error: unknown): boolean {
  return (Object(error) as Partial<EmbergramError>).code === "device_lost";
}

/** Gives a device's memory back at once, the engine's own when it is at rest. */
function free({ engine, opened }: Built, rest: Promise<void> = Promise.resolve()): void {
  opened.close();
  void rest.then(() => engine.free());
}

function checked(params: unknown, what: string, example: string): object {
  if (typeof params === "object" && params !== null && !Array.isArray(params)) return params;
  throw new EmbergramError("invalid_params", `${what} are an object such as ${example}, not ${shown(params)}`);
}

/** Reads a file to its end, which keeps it; gives its bytes. */
async function read(part: ModelPart): Promise<number> {
  for (;;) {
    try {
      let bytes = 0;
      for await (const chunk of part.bytes()) bytes += chunk.length;
      return bytes;
    } catch (error) {
      if (!(error instanceof RestartLoad)) throw error;
    }
  }
}

/** The last tokens of a prompt after which so many must fit. */
function truncated(tokens: number[], most: number | null | undefined, engine: Engine, after = 1): number[] {
  if (most == null) return tokens;
  if (!Number.isInteger(most) || most < -1 || most === 0) {
    throw new EmbergramError("invalid_params", `truncate_prompt_tokens is ${String(most)}, but must be a whole number from 1, or -1 for what fits`);
  }
  const kept = most === -1 ? (engine.info() as ModelInfo).max_model_len - after : most;
  return tokens.length > kept ? tokens.slice(tokens.length - kept) : tokens;
}

function checkedIds(prompt: unknown): readonly number[] | Uint32Array {
  if (Array.isArray(prompt) || prompt instanceof Uint32Array) return prompt;
  throw new EmbergramError("invalid_prompt", `a prompt is a string, or an array of token ids, not ${shown(prompt)}`);
}

function shown(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "an array" : `of type ${typeof value}`;
}
