/** Where structured outputs, tool calls and predictions plug into the doors. */
import { invalid } from "./errors.js";
import type { Kind } from "./fields.js";
import { GUIDED } from "./structured.js";
import { extensionOf, type Extension } from "./tools/index.js";

export type { Extension } from "./tools/index.js";

/**
 * Reads what a body asks of its answer's shape, of tools and of predictions. A completion has the shape alone.
 *
 * @param chatTemplate the model's, by which the format of its calls is known
 * @throws {ApiError} 400
 */
export function extend(kind: Kind, body: Readonly<Record<string, unknown>>, chatTemplate: string | null | undefined): Extension {
  return extensionOf(kind === "chat" ? body : { response_format: body["response_format"], structured_outputs: body["structured_outputs"] }, chatTemplate);
}

/** Refuses vLLM's older names of these by what they are now. */
export function refuseOlderNames(body: unknown): void {
  for (const [name, now] of Object.entries(GUIDED)) {
    if ((Object(body) as Record<string, unknown>)[name] != null) throw invalid(`${name} is vLLM's older name; use ${now}`, name);
  }
}
