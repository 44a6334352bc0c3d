/**
 * The engine's host: owns the WebAssembly engine and runs its step loop. It lives in the package's worker, or with
 * `worker: false` where the caller is. Requests of all callers share the steps.
 */
import initEngine, { Engine, Loader, version as engineVersion } from "./engine/engine.js";
import { EmbergramError, asEmbergramError, unloadedError } from "./error.js";
import { fetchThrough, type FetchPort } from "./fetch-port.js";
import { recall, remember } from "./remember.js";
import { release } from "./rpc.js";
import { adapterInfo } from "./supported.js";
import { modelCache, openModel, RestartLoad, type ModelInput, type ModelSource, type OpenOptions } from "./source/index.js";
import type {
  AdapterInfo, ChatMessage, CompletionOutput, Delta, EngineOptions, FinishReason, LoadProgress, Metric, ModelInfo, Prompt,
  RequestMetrics, RequestOutput, SamplingParams, SpeculativeConfig, TokenLogprob,
} from "./types.js";
import { checkVersions, VERSION } from "./version.js";

/** What `load` needs beside the engine's options. */
export interface LoadRequest extends Omit<OpenOptions, "onProgress" | "signal" | "fetch"> {
  /** URL, file or `hf:` name of a GGUF model; of a split one any part, or all files. */
  model: ModelInput;
  engine: EngineOptions;
  /** The caller's. */
  version: string;
  /** Where the WebAssembly module is; default beside this script. */
  wasmUrl?: string;
  /** The module itself, gzipped, in place of an address. */
  wasm?: Blob;
}

/** Prompts of one call: texts or ids, or conversations for the model's template. */
export type Work = { prompts: readonly Prompt[] } | { chats: readonly (readonly ChatMessage[])[] };

/** Told of every delta: which prompt of the call, and what was added. */
export type OnDelta = (prompt: number, delta: Delta) => unknown;

/** What one step added to a sequence, as the engine gives it. */
interface SequenceOutput {
  id: number;
  text: string;
  token_ids: number[];
  draft_positions: (number | null)[];
  logprobs: TokenLogprob[][];
  finish_reason: FinishReason | null;
  stop_reason: number | string | null;
  metrics: RequestMetrics | null;
}

interface Call {
  outputs: RequestOutput[];
  sequences: number[];
  open: number;
  onDelta: OnDelta | undefined;
  /** Settles when the last delta has arrived, where that takes time. */
  told: unknown;
  resolve(outputs: RequestOutput[]): void;
  reject(error: EmbergramError): void;
}

/** Lets messages in: aborts and new requests are taken between two steps. */
function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}

export class EngineHost {
  #engine: Engine | undefined;
  /** The step under way; nothing else may touch the engine meanwhile. */
  #step: Promise<unknown> | undefined;
  #looping = false;
  #calls = new Map<number, Call>();
  /** What `cancel` reaches: loads and calls, from their first moment on. */
  #aborts = new Map<number, AbortController>();
  /** Where each sequence in flight belongs: its call, prompt and index. */
  #sequences = new Map<number, { call: number; prompt: number; index: number }>();
  /** Set when the engine trapped or lost its device: every later call fails with it. */
  #dead: EmbergramError | undefined;

  /** Loads a model. A load that fails leaves the host as it was. */
  async load(
    id: number,
    request: LoadRequest,
    onProgress?: (progress: LoadProgress) => void,
    fetchPort?: FetchPort,
  ): Promise<ModelInfo> {
    const { model, engine: options, version, wasmUrl, wasm, ...open } = request;
    const abort = new AbortController();
    this.#aborts.set(id, abort);
    try {
      onProgress?.({ phase: "gpu", loaded: 0 });
      checkVersions("the package's index.js", version, "the engine's script (worker.js, host.js)", VERSION);
      await start(wasmUrl, wasm);
      abort.signal.throwIfAborted();
      const adapter = await adapterInfo();
      let last: LoadProgress = { phase: "download", loaded: 0 };
      const source = await openModel(model, {
        ...open,
        ...(fetchPort && { fetch: fetchThrough(fetchPort) }),
        signal: abort.signal,
        onProgress: (progress) => onProgress?.((last = progress)),
      });
      const loader = await this.#fill(source, options);
      onProgress?.({ ...last, phase: "build" });
      const engine = loader.finish();
      try {
        await nextTask();
        abort.signal.throwIfAborted();
        await warmUp(engine, adapter);
        abort.signal.throwIfAborted();
      } catch (error) {
        if (abort.signal.aborted) engine.free();
        throw error;
      }
      this.#engine = engine;
      onProgress?.({ ...last, phase: "ready" });
      return { ...(engine.info() as Omit<ModelInfo, "adapter">), adapter: adapter! };
    } catch (error) {
      const failure = asEmbergramError(error);
      // A file that is no whole model must not come out of the cache when the server's has been mended.
      const damaged = failure.code === "invalid_file" || failure.code === "truncated_file";
      if (damaged && (typeof model === "string" || model instanceof URL)) await modelCache.delete(model, open).catch(() => {});
      throw failure;
    } finally {
      this.#aborts.delete(id);
      release(onProgress);
      release(fetchPort);
    }
  }

  /** Streams a model's bytes to the GPU; begins again when they turn out not to be those of one file. */
  async #fill(source: ModelSource, options: EngineOptions): Promise<Loader> {
    for (;;) {
      const loader = await Loader.open(options);
      try {
        // All headers must be known before the first tensor comes. What was read to see one is read again in its turn: a
        // stream left open would hold a connection and the file's lock until then.
        for (const part of source.parts.slice(1)) {
          for await (const bytes of part.bytes()) if (loader.announce(bytes)) break;
        }
        for (const [i, part] of source.parts.entries()) {
          if (i > 0) loader.nextPart();
          for await (const bytes of part.bytes()) loader.push(bytes);
        }
        return loader;
      } catch (error) {
        loader.free();
        if (!(error instanceof RestartLoad)) throw error;
      }
    }
  }

  /**
   * Runs prompts to their ends, in shared steps with whatever else is in flight. When one is refused, none runs.
   * `call` is the caller's own number, for {@link cancel}.
   */
  async run(
    call: number,
    work: Work,
    params: SamplingParams | readonly SamplingParams[],
    onDelta?: OnDelta,
  ): Promise<RequestOutput[]> {
    const abort = new AbortController();
    this.#aborts.set(call, abort);
    let entry: Call | undefined;
    try {
      const engine = await this.#free();
      abort.signal.throwIfAborted();
      const added = (entry = this.#add(engine, call, work, params, onDelta));
      if (added.sequences.length === 0) return [];
      return await new Promise<RequestOutput[]>((resolve, reject) => {
        this.#calls.set(call, Object.assign(added, { resolve, reject }));
        // Where the engine is gone, so is the call.
        abort.signal.addEventListener("abort", () => void this.#abort(call).catch(() => {}));
        void this.#loop();
      });
    } catch (error) {
      throw asEmbergramError(error);
    } finally {
      this.#aborts.delete(call);
      // Deltas cross by a port of their own, and nothing orders two ports: the end waits until the last has arrived.
      await entry?.told;
      release(onDelta);
    }
  }

  #add(
    engine: Engine,
    call: number,
    work: Work,
    params: SamplingParams | readonly SamplingParams[],
    onDelta: OnDelta | undefined,
  ): Call {
    const prompts = "chats" in work ? work.chats.map((chat) => engine.chatPrompt(chat)) : work.prompts;
    if (Array.isArray(params) && params.length !== prompts.length) {
      throw new EmbergramError(
        "invalid_params",
        `there are ${params.length} sets of sampling parameters for ${prompts.length} prompts; give one, or one a prompt`,
      );
    }
    const entry: Call = {
      outputs: [], sequences: [], open: 0, onDelta, told: undefined, resolve: () => {}, reject: () => {},
    };
    try {
      prompts.forEach((prompt, i) => {
        const own = checkedParams(Array.isArray(params) ? params[i] : params);
        const tokens = [...(typeof prompt === "string" ? engine.tokenize(prompt) : checkedIds(prompt))];
        const ids = engine.add(tokens, own) as number[];
        const outputs = ids.map((id, index): CompletionOutput => {
          entry.sequences.push(id);
          this.#sequences.set(id, { call, prompt: i, index });
          return {
            index, text: "", token_ids: [], logprobs: own.logprobs == null ? null : [], finish_reason: null, stop_reason: null,
            metrics: null,
          };
        });
        entry.outputs.push({
          prompt: typeof prompt === "string" ? prompt : null, prompt_token_ids: tokens, outputs, metrics: null,
        });
      });
    } catch (error) {
      for (const id of entry.sequences) this.#drop(engine, id);
      throw this.#mark(error);
    }
    entry.open = entry.sequences.length;
    return entry;
  }

  /** Ends a call or a load between two steps; it rejects with code `aborted`. Others go on. */
  async cancel(id: number): Promise<void> {
    this.#aborts.get(id)?.abort(new EmbergramError("aborted", "the call was aborted"));
  }

  async #abort(call: number): Promise<void> {
    const engine = await this.#free();
    const entry = this.#calls.get(call);
    if (!entry) return;
    this.#calls.delete(call);
    for (const id of entry.sequences) this.#drop(engine, id);
    entry.reject(new EmbergramError("aborted", "the call was aborted"));
  }

  async tokenize(text: string): Promise<number[]> {
    const engine = await this.#free();
    return guarded(() => [...engine.tokenize(text)]);
  }

  async detokenize(ids: readonly number[]): Promise<string> {
    const engine = await this.#free();
    return guarded(() => engine.detokenize(Uint32Array.from(ids)));
  }

  /** The text of each token by itself, special tokens included. */
  async tokenTexts(ids: readonly number[]): Promise<string[]> {
    const engine = await this.#free();
    return guarded(() => ids.map((id) => engine.detokenize(Uint32Array.of(id))));
  }

  async metrics(): Promise<Metric[]> {
    const engine = await this.#free();
    return guarded(() => engine.metrics() as Metric[]);
  }

  async metricsText(): Promise<string> {
    const engine = await this.#free();
    return guarded(() => engine.metricsText());
  }

  async resetMetrics(): Promise<void> {
    const engine = await this.#free();
    guarded(() => engine.resetMetrics());
  }

  async setSpeculativeConfig(config: SpeculativeConfig | null): Promise<void> {
    const engine = await this.#free();
    guarded(() => engine.setSpeculativeConfig(config));
  }

  /** Frees the engine; requests in flight are aborted, later ones refused. */
  async unload(): Promise<void> {
    const failed = this.#dead;
    const unloaded = (this.#dead = unloadedError());
    await this.#rest();
    this.#rejectAll(unloaded);
    const engine = this.#engine;
    this.#engine = undefined;
    // A module that trapped cannot even free.
    if (!failed) engine?.free();
  }

  /** Waits for the end of the step under way. */
  async #rest(): Promise<void> {
    while (this.#step) await this.#step.then(() => {}, () => {});
  }

  /** The engine, when no step is under way. */
  async #free(): Promise<Engine> {
    await this.#rest();
    if (this.#dead) throw this.#dead;
    if (!this.#engine) throw new EmbergramError("internal", "no model is loaded; call load first");
    return this.#engine;
  }

  #drop(engine: Engine, id: number): void {
    this.#sequences.delete(id);
    engine.abort(id);
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
        if (!this.#engine?.isBusy()) break;
        this.#step = this.#engine.step();
        const outputs = (await this.#step.finally(() => (this.#step = undefined))) as SequenceOutput[];
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
    output.logprobs?.push(...added.logprobs);
    output.finish_reason = added.finish_reason;
    output.stop_reason = added.stop_reason;
    output.metrics = added.metrics;
    if (place.index === 0) request.metrics = added.metrics;
    const { id, logprobs, ...delta } = added;
    call.told = call.onDelta?.(place.prompt, { index: place.index, ...delta, logprobs: output.logprobs && logprobs });
    if (added.finish_reason === null) return;
    this.#sequences.delete(id);
    call.open -= 1;
    if (call.open > 0) return;
    this.#calls.delete(place.call);
    call.resolve(call.outputs);
  }

  /** The error as ours; one that leaves the engine unusable is remembered. */
  #mark(error: unknown): EmbergramError {
    const marked = asEmbergramError(error);
    if (marked.code === "device_lost" || marked.code === "internal") this.#dead = marked;
    return marked;
  }
}

/** Lets the engine check its kernels on this adapter, once for each: it takes seconds on a CPU adapter. */
async function warmUp(engine: Engine, adapter: AdapterInfo | null): Promise<void> {
  const { name, vendor, architecture } = adapter ?? {};
  const key = [name, vendor, architecture, globalThis.navigator?.userAgent, engine.fingerprint()].join(" ");
  const known = await recall(key);
  const single = await engine.warmUp(known === undefined ? undefined : known === "true");
  if (known === undefined) await remember(key, String(single));
}

function checkedParams(params: unknown): SamplingParams {
  if (typeof params === "object" && params !== null && !Array.isArray(params)) return params;
  throw new EmbergramError("invalid_params", `sampling parameters are an object such as { max_tokens: 64 }, not ${shown(params)}`);
}

function checkedIds(prompt: unknown): readonly number[] | Uint32Array {
  if (Array.isArray(prompt) || prompt instanceof Uint32Array) return prompt;
  throw new EmbergramError("invalid_prompt", `a prompt is a string, or an array of token ids, not ${shown(prompt)}`);
}

function shown(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "an array" : `of type ${typeof value}`;
}

/** Instantiates the engine's module, the first time. */
async function start(url: string | undefined, gzipped: Blob | undefined): Promise<void> {
  const check = (found?: string) => checkVersions("the engine's script", VERSION, "its module (engine_bg.wasm)", found);
  try {
    await instantiate(url, gzipped);
  } catch (error) {
    // Each version has imports of its own.
    if (error instanceof WebAssembly.LinkError) check();
    throw error;
  }
  check(engineVersion());
}

async function instantiate(url: string | undefined, gzipped: Blob | undefined): Promise<void> {
  if (url !== undefined) return void (await initEngine({ module_or_path: url }));
  if (gzipped === undefined) return void (await initEngine());
  const bytes = gzipped.stream().pipeThrough(new DecompressionStream("gzip"));
  await initEngine({ module_or_path: new Response(bytes, { headers: { "content-type": "application/wasm" } }) });
}

function guarded<T>(f: () => T): T {
  try {
    return f();
  } catch (error) {
    throw asEmbergramError(error);
  }
}
