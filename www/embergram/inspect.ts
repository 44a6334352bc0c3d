/** What a model is and takes, by its headers alone. */
import { adapterOf, choose } from "./backend.js";
import { Inspector } from "./engine/engine.js";
import { asEmbergramError, EmbergramError, type ErrorCode } from "./error.js";
import type { ModelHeads } from "./source/index.js";
import type { Backend, BackendOptions, EngineOptions, InspectedModel, Inspection, Support } from "./types.js";

/** What says that a model does not run here. Whatever else is thrown is no answer. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "invalid_file", "truncated_file", "unsupported_quantization", "unsupported_model", "invalid_tensor", "adapter_too_small",
  "no_webgpu", "no_simd",
]);

/** The largest binding of an adapter that has room for all. */
const UNLIMITED = Number.MAX_SAFE_INTEGER;
/** Bytes that the CPU's kernels can address. */
const CPU_MEMORY = 2 ** 32;

/**
 * Tells what a model is, and whether it runs here.
 *
 * @param open finds the model's files
 */
export async function inspect(
  open: () => Promise<ModelHeads>, options: EngineOptions, wanted: BackendOptions, support: Support,
): Promise<Inspection> {
  // Options are checked before anything is fetched.
  Inspector.open(UNLIMITED, options).free();
  const found = await attempt(open);
  const headers = found.value && new HeaderBytes(found.value, options);
  const { value: backend, refusal: none } = await attempt(async () => choose(wanted, support));
  const limit = backend === "cpu" ? undefined : backend ? support.max_tensor_bytes : UNLIMITED;
  let look = headers && (await attempt(() => headers.look(limit)));
  const refusal = found.refusal ?? look?.refusal;
  // A model that this adapter has no room for is described all the same.
  if (refusal?.code === "adapter_too_small") look = await attempt(() => headers!.look(UNLIMITED));
  const model = look?.value ?? null;
  const problem = none ?? refusal ?? (model && backend ? misfit(model, options, backend) : undefined);
  return {
    backend: problem ? null : backend!,
    reason: problem ? { code: problem.code, message: problem.message } : null,
    adapter: backend ? adapterOf(backend, wanted, support) : null,
    download_bytes: (await found.value?.size()) ?? null,
    model,
  };
}

/** What the work gave, or by what it says that the model does not run here. */
async function attempt<T>(work: () => Promise<T>): Promise<{ value?: T; refusal?: EmbergramError }> {
  try {
    return { value: await work() };
  } catch (error) {
    const refusal = asEmbergramError(error);
    if (!REFUSALS.has(refusal.code)) throw refusal;
    return { refusal };
  }
}

/** Options that ask for more positions than there are, or a model for more memory. */
function misfit(model: InspectedModel, { max_model_len = 1 }: EngineOptions, backend: Backend): EmbergramError | undefined {
  const { context, kv_bytes_per_token, max_model_len: most, weight_bytes } = model;
  if (backend === "cpu" && weight_bytes > CPU_MEMORY) {
    const message = `the weights need ${weight_bytes} bytes, but the CPU backend addresses ${CPU_MEMORY}; use a smaller model or quantisation`;
    return new EmbergramError("adapter_too_small", message);
  }
  if (max_model_len <= most) return undefined;
  const more = max_model_len <= context ? `, or give kv_cache_memory_bytes at least ${max_model_len * kv_bytes_per_token}` : "";
  return new EmbergramError("invalid_config", `max_model_len is ${max_model_len}, but ${most} positions fit; lower it${more}`);
}

/** The headers of a model's files, fetched once and looked at as often as needed. */
class HeaderBytes {
  readonly #heads: ModelHeads;
  readonly #options: EngineOptions;
  /** What came of each part. */
  readonly #seen: Uint8Array[][];

  constructor(heads: ModelHeads, options: EngineOptions) {
    this.#heads = heads;
    this.#options = options;
    this.#seen = heads.parts.map(() => []);
  }

  /** What they tell, for an adapter with such bindings, or for the CPU. */
  async look(limit: number | undefined): Promise<InspectedModel> {
    const inspector = Inspector.open(limit, this.#options);
    try {
      const { config, parts } = this.#heads;
      if (config) inspector.folder(json(config));
      for (let part = 1; part < parts.length; part++) await this.#feed(part, (bytes) => inspector.announce(bytes));
      return await this.#feed(0, (bytes) => inspector.push(bytes) as InspectedModel | null);
    } finally {
      inspector.free();
    }
  }

  /** Gives a part's bytes until `take` has its answer. */
  async #feed<T>(part: number, take: (bytes: Uint8Array) => T): Promise<NonNullable<T>> {
    const seen = this.#seen[part]!;
    const head = this.#heads.parts[part]!;
    for (const piece of seen) {
      const answer = take(piece);
      if (answer) return answer;
    }
    for await (const piece of seen.length > 0 ? [] : head.bytes()) {
      seen.push(piece);
      const answer = take(piece);
      if (answer) return answer;
    }
    throw new EmbergramError("truncated_file", `"${head.name}" ends inside its header; download it again`);
  }
}

function json(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new EmbergramError("invalid_file", `config.json is no JSON: ${(cause as Error).message}`, { cause });
  }
}
