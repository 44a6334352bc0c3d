import type { RequestOutput } from "./types.js";

/** What kind of thing went wrong. Codes are stable: programs may branch on them. */
export type ErrorCode =
  /** The bytes are not a GGUF file, contradict themselves, or are not those that were promised (sha256). */
  | "invalid_file"
  /** The file or the stream ended before everything in it had arrived. */
  | "truncated_file"
  /** A tensor type the engine has no kernel for. */
  | "unsupported_quantization"
  /** A model architecture, tokenizer, template or piece of metadata the engine does not know. */
  | "unsupported_model"
  /** A tensor is missing, has another shape than the metadata promises, or is not used by any parameter. */
  | "invalid_tensor"
  /** An option of `Llm.load` is unknown or out of range. */
  | "invalid_config"
  /** A sampling parameter is unknown or out of range. */
  | "invalid_params"
  /** The prompt is empty, malformed, or holds tokens outside the vocabulary. */
  | "invalid_prompt"
  /** The prompt leaves no room in `max_model_len`, or the request can never fit the KV cache. */
  | "prompt_too_long"
  /** As many sequences wait as may (`max_num_waiting`); call again when earlier calls have ended. */
  | "queue_full"
  /** The model gave NaN or an infinity, so that there is no next token; see `OutputError`. */
  | "corrupted_logits"
  /** The grammar of a request became too complex, or no token goes on as it wants; see `OutputError`. */
  | "grammar_failed"
  /** There is no WebGPU, or no adapter. */
  | "no_webgpu"
  /** WebAssembly has no SIMD here, which the CPU backend needs. */
  | "no_simd"
  /** The adapter's limits are below what the model needs. */
  | "adapter_too_small"
  /** The device was lost; load again. */
  | "device_lost"
  /** The server answered with an error status, or is not what it was taken for. */
  | "http"
  /** The server answers, but not to pages of this origin. */
  | "cors"
  /** The server wants another key. */
  | "unauthorized"
  /** The server has no model of this name. */
  | "unknown_model"
  /** The server answers, but tells no metrics. */
  | "no_metrics"
  /** The connection broke or could not be made. */
  | "network"
  /** The browser grants this origin too little storage for the model. */
  | "quota"
  /** The caller aborted. */
  | "aborted"
  /** A fault of the engine's own. */
  | "internal";

/** The one error type of the package. The message says what was wrong, where, and what to do. */
export class EmbergramError extends Error {
  /** `AbortError` with code `aborted`, as other functions that a signal ends have it; else `EmbergramError`. */
  override readonly name: "EmbergramError" | "AbortError";
  /** The stable code. */
  readonly code: ErrorCode;
  /** Of a call that its signal ended, what its prompts had given by then. The `cause` is the signal's `reason`. */
  readonly partial?: RequestOutput[];

  constructor(code: ErrorCode, message: string, options: ErrorOptions & { partial?: RequestOutput[] | undefined } = {}) {
    const { partial, ...own } = options;
    super(message, own);
    this.code = code;
    this.name = code === "aborted" ? "AbortError" : "EmbergramError";
    if (partial) this.partial = partial;
  }
}

/** What calls get that an unload ends, or that come after it. */
export function unloadedError(): EmbergramError {
  return new EmbergramError("aborted", "the model was unloaded; load it again with Llm.load");
}

const CODES: ReadonlySet<unknown> = new Set<ErrorCode>([
  "invalid_file", "truncated_file", "unsupported_quantization", "unsupported_model", "invalid_tensor", "invalid_config",
  "invalid_params", "invalid_prompt", "prompt_too_long", "queue_full", "corrupted_logits", "grammar_failed", "no_webgpu", "no_simd",
  "adapter_too_small", "device_lost", "http", "cors", "unauthorized", "unknown_model", "no_metrics", "network", "quota", "aborted",
  "internal",
]);

/** Any thrown value as one of ours: an error with a `code` of ours keeps it, everything else is `internal`. */
export function asEmbergramError(thrown: unknown): EmbergramError {
  if (thrown instanceof EmbergramError) return thrown;
  const { code, name, message } = Object(thrown) as Partial<{ code: ErrorCode; name: string; message: string }>;
  if (CODES.has(code)) return new EmbergramError(code!, message ?? "", { cause: thrown });
  if (name === "AbortError") return new EmbergramError("aborted", message || "the call was aborted", { cause: thrown });
  return new EmbergramError("internal", message ?? String(thrown), { cause: thrown });
}
