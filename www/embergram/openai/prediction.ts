/** OpenAI's predicted outputs: a source of drafts, and how its tokens fared. */
import { EmbergramError } from "../error.js";
import type { RequestOutput } from "../types.js";

/** A text that the answer is likely to have much of. Where it does, its tokens take fewer steps; no token is another. */
export interface ChatCompletionPredictionContent {
  type: "content";
  /** The text, or parts of one, which are joined. */
  content: string | readonly { type: "text"; text: string }[];
}

/** The text of a prediction; `undefined` for none. */
export function predictionOf(prediction: unknown): string | undefined {
  if (prediction == null) return undefined;
  const { type, content } = Object(prediction) as { type?: unknown; content?: unknown };
  const texts = typeof content === "string" ? [content] : Array.isArray(content) ? content.map((part: unknown) => (Object(part) as { text?: unknown }).text) : [];
  if (type !== "content" || texts.length === 0 || !texts.every((text) => typeof text === "string")) {
    throw new EmbergramError("invalid_params", 'prediction must be { type: "content", content }, whose content is a text or a list of { type: "text", text }');
  }
  return texts.join("");
}

/** How tokens of predictions fared as drafts, over all choices. Each that was not accepted was computed in vain. */
export interface PredictionDetails {
  accepted_prediction_tokens: number;
  rejected_prediction_tokens: number;
}

export function predictionDetails(outputs: readonly RequestOutput[]): PredictionDetails {
  const sum = (key: "num_accepted_prediction_tokens" | "num_rejected_prediction_tokens") =>
    outputs.flatMap((o) => o.outputs).reduce((total, { metrics }) => total + (metrics?.[key] ?? 0), 0);
  return { accepted_prediction_tokens: sum("num_accepted_prediction_tokens"), rejected_prediction_tokens: sum("num_rejected_prediction_tokens") };
}
