/** `/v1/embeddings`, as vLLM's server answers it. */
import type { CallOptions } from "../llm.js";
import type { EmbeddingOutput, PoolingParams, Prompt } from "../types.js";
import { invalid } from "./errors.js";
import { checkModel, promptsOf, tokens, type Target } from "./request.js";
import { bool, either, int, list, literal, nullable, readBody, text, type Type } from "./schema.js";

/** What makes embeddings. */
export interface Embedder extends Target {
  embed(prompts: readonly Prompt[], params: PoolingParams, options: CallOptions): Promise<EmbeddingOutput[]>;
}

const ids = list(int(0));
const FIELDS: Readonly<Record<string, Type>> = {
  model: nullable(text),
  input: nullable(either(ids, list(ids), text, list(text))),
  encoding_format: literal("float", "base64"),
  dimensions: nullable(int(1)),
  user: nullable(text),
  truncate_prompt_tokens: nullable(int(-1)),
  truncation_side: nullable(literal("left", "right")),
  add_special_tokens: bool,
  use_activation: nullable(bool),
  request_id: text,
  // Not vLLM's: there the server is told.
  pooling: literal("last", "mean"),
};

/** The answer to a body. */
export async function embeddings(target: Embedder, given: unknown, options: CallOptions): Promise<object> {
  const body = readBody(given, { fields: FIELDS, required: ["input"] });
  checkModel(target, body["model"] as string | null | undefined);
  if (body["input"] === null) throw invalid("input must be a text, a list of texts, or token ids.", "input");
  const work = { prompts: promptsOf(target, body["input"], "input") };
  const prompts = await tokens(target, "completion", body, work);
  const params: PoolingParams = {
    ...(body["pooling"] !== undefined && { pooling: body["pooling"] as "last" | "mean" }),
    ...(body["dimensions"] != null && { dimensions: body["dimensions"] as number }),
    ...(body["use_activation"] != null && { normalize: body["use_activation"] as boolean }),
  };
  const made = await target.embed(prompts, params, options);
  const count = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  const shown = body["encoding_format"] === "base64" ? base64 : (values: Float32Array) => [...values];
  return {
    id: `embd-${(body["request_id"] as string | undefined) ?? crypto.randomUUID().replaceAll("-", "")}`,
    object: "list",
    created: Math.floor(Date.now() / 1000),
    model: body["model"] || target.name,
    data: made.map(({ outputs }, index) => ({ index, object: "embedding", embedding: shown(outputs.embedding) })),
    usage: { prompt_tokens: count, total_tokens: count, completion_tokens: 0, prompt_tokens_details: null },
  };
}

/** The values' bytes, little-endian, as OpenAI's client asks for them. */
function base64(values: Float32Array): string {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, i) => view.setFloat32(i * 4, value, true));
  return btoa(Array.from(new Uint8Array(view.buffer), (byte) => String.fromCharCode(byte)).join(""));
}
