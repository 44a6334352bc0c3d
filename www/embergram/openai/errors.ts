/** Errors as vLLM's server tells them. */
import { EmbergramError, asEmbergramError, type ErrorCode } from "../error.js";

/** An error of a door: what a server would answer, and as an {@link EmbergramError} what `create` throws. */
export class ApiError extends EmbergramError {
  constructor(
    readonly status: number,
    readonly type: string,
    message: string,
    readonly param: string | null = null,
    code: ErrorCode = "invalid_params",
    options?: ErrorOptions,
  ) {
    super(code, message, options);
  }

  /** The body of the answer. */
  get body(): { error: { message: string; type: string; param: string | null; code: number } } {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.status } };
  }
}

/** vLLM's `VLLMValidationError`: its text names the parameter and the value where it has them. */
export function invalid(message: string, param?: string, value?: string, code?: ErrorCode): ApiError {
  const extras = [param !== undefined && `parameter=${param}`, value !== undefined && `value=${value}`].filter(Boolean);
  return new ApiError(400, "BadRequestError", extras.length > 0 ? `${message} (${extras.join(", ")})` : message, param, code);
}

/** Statuses of the engine's own errors that are not a fault of its own. */
const STATUSES: Partial<Record<ErrorCode, [status: number, type: string]>> = {
  invalid_params: [400, "BadRequestError"],
  invalid_prompt: [400, "BadRequestError"],
  prompt_too_long: [400, "BadRequestError"],
  grammar_failed: [400, "BadRequestError"],
  unsupported_model: [400, "BadRequestError"],
  queue_full: [503, "ServiceUnavailableError"],
  aborted: [503, "ServiceUnavailableError"],
  device_lost: [503, "ServiceUnavailableError"],
};

/** Any thrown value as an answer. */
export function asApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown;
  const { code, message } = asEmbergramError(thrown);
  const [status, type] = STATUSES[code] ?? [500, "InternalServerError"];
  return new ApiError(status, type, message, null, code, { cause: thrown });
}
