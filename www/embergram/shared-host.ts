/** One engine for all tabs of an origin, in a shared worker. Each tab has a client of its own, and takes its calls with it when it goes. */
import { expose } from "comlink";
import type { HostApi } from "./connection.js";
import { asEmbergramError, type EmbergramError } from "./error.js";
import { EngineHost, type LoadRequest, type OnDelta, type Work } from "./host.js";
import type { Process } from "./processors.js";
import { release } from "./rpc.js";
import type { EmbeddingOutput, LoadProgress, ModelInfo, PoolingParams, RequestOutput, SamplingParams } from "./types.js";

type OnProgress = (progress: LoadProgress) => unknown;

export class SharedEngine {
  host = new EngineHost();
  readonly #end: () => void;
  readonly #clients = new Set<SharedClient>();
  readonly #watching = new Set<OnProgress>();
  #loaded: Promise<ModelInfo> | undefined;
  /** The end of the engine before, which holds memory until then. */
  #unloading: Promise<void> = Promise.resolve();
  #joined = 0;

  /** @param end ends the worker, whose WebAssembly has trapped */
  constructor(end: () => void) {
    this.#end = end;
  }

  /** Serves another tab. */
  join(port: MessagePort): void {
    const client = new SharedClient(this, ++this.#joined);
    this.#clients.add(client);
    expose(client.whole(), port);
  }

  /** The model, which the first tab loads and the others wait for. */
  async load(request: LoadRequest, onProgress: OnProgress | undefined): Promise<ModelInfo> {
    if (this.#loaded && (await failure(this.host))) this.#renew();
    if (onProgress) this.#watching.add(onProgress);
    const tell = (progress: LoadProgress) => this.#watching.forEach((watch) => void watch(progress));
    const loading = (this.#loaded ??= this.#unloading.then(() => this.host.load(request, tell)));
    try {
      return await loading;
    } catch (error) {
      if (this.#loaded === loading) this.#loaded = undefined;
      throw error;
    } finally {
      if (onProgress) this.#watching.delete(onProgress);
    }
  }

  /** A tab is gone; the last one takes the engine along. */
  async leave(client: SharedClient): Promise<void> {
    if (!this.#clients.delete(client) || this.#clients.size > 0) return;
    const trapped = (await failure(this.host))?.code === "internal";
    this.#renew();
    await this.#unloading;
    // The worker lives on for the next load, unless it is of no more use. This tab gets its answer first.
    if (trapped) setTimeout(() => this.#clients.size === 0 && this.#end(), 100);
  }

  /** Another host takes the place of this one. */
  #renew(): void {
    const { host } = this;
    this.host = new EngineHost();
    this.#loaded = undefined;
    this.#unloading = this.#unloading.then(() => host.unload());
  }
}

/** Why a host is of no more use, where it is not. */
async function failure(host: EngineHost): Promise<EmbergramError | undefined> {
  return host.check().then(() => undefined, asEmbergramError);
}

/** A tab's end of it: the host's methods, with calls that are this tab's alone. */
class SharedClient {
  readonly #engine: SharedEngine;
  /** Added to a tab's numbers of its calls, which other tabs have too. */
  readonly #offset: number;
  readonly #open = new Set<number>();
  readonly #gone: Promise<void>;
  #go: () => void = () => {};

  constructor(engine: SharedEngine, number: number) {
    this.#engine = engine;
    this.#offset = number * 2 ** 32;
    this.#gone = new Promise((resolve) => (this.#go = resolve));
  }

  /** Itself, and for what it does not do otherwise the host. */
  whole(): HostApi & Pick<SharedClient, "attach"> {
    const own = this as unknown as Record<PropertyKey, unknown>;
    return new Proxy(own, {
      get: (_, name) => {
        const from = name in own ? own : (this.#engine.host as unknown as typeof own);
        const value = from[name];
        return typeof value === "function" ? value.bind(from) : value;
      },
    }) as unknown as HostApi & Pick<SharedClient, "attach">;
  }

  /** The tab holds this lock for as long as it lives, however it ends. */
  async attach(lock: string): Promise<void> {
    void navigator.locks.request(lock, () => this.unload());
  }

  async load(request: LoadRequest, onProgress?: OnProgress): Promise<ModelInfo> {
    try {
      return await this.#engine.load(request, onProgress);
    } finally {
      release(onProgress);
    }
  }

  async run(
    call: number, work: Work, params: SamplingParams | readonly SamplingParams[], onDelta?: OnDelta, process?: Process,
  ): Promise<RequestOutput[]> {
    // The engine waits for what a processor says; a tab that is gone says nothing, and its calls are about to end.
    const alive: Process | undefined =
      process && (async (...row) => (await Promise.race([process(...row), this.#gone])) ?? row[2]);
    try {
      return await this.#own(call, (id) => this.#engine.host.run(id, work, params, onDelta, alive));
    } finally {
      release(process);
    }
  }

  async embed(call: number, work: Work, params: PoolingParams): Promise<EmbeddingOutput[]> {
    return this.#own(call, (id) => this.#engine.host.embed(id, work, params));
  }

  async cancel(call: number): Promise<void> {
    return this.#engine.host.cancel(this.#offset + call);
  }

  async unload(): Promise<void> {
    for (const id of this.#open) void this.#engine.host.cancel(id);
    this.#go();
    await this.#engine.leave(this);
  }

  async #own<T>(call: number, start: (id: number) => Promise<T>): Promise<T> {
    const id = this.#offset + call;
    this.#open.add(id);
    try {
      return await start(id);
    } finally {
      this.#open.delete(id);
    }
  }
}
