/** OpenAI's `response_format` as what an output must fit. */
import { EmbergramError } from "../error.js";
import type { StructuralTag, StructuredOutputs } from "../types.js";

/** What an answer must look like: free text, a JSON object, JSON of a schema, or text with parts of a schema. */
export type ResponseFormat =
  | { type: "text" }
  | { type: "json_object" }
  | { type: "json_schema"; json_schema: JsonSchemaFormat }
  | (StructuralTag & { type: "structural_tag" });

/** A schema, by a name that only the caller reads. */
export interface JsonSchemaFormat {
  name?: string;
  description?: string;
  /** The schema. Keywords that are not known are refused by name, with `strict` and without. */
  schema?: object | boolean;
  /** An answer always fits its schema: `true` asks for no more. */
  strict?: boolean | null;
}

/** Older names of vLLM's, and what they are now. */
export const GUIDED: Readonly<Record<string, string>> = {
  guided_json: "structured_outputs: { json }", guided_regex: "structured_outputs: { regex }",
  guided_choice: "structured_outputs: { choice }", guided_grammar: "structured_outputs: { grammar }",
  guided_whitespace_pattern: "structured_outputs: { json, whitespace_pattern }",
  guided_json_object: "structured_outputs: { json_object: true }",
  guided_decoding_backend: "nothing: there is one backend",
};

/** What `response_format` asks for; `undefined` for free text. */
export function outputsOf(format: unknown): StructuredOutputs | undefined {
  if (format == null) return undefined;
  const wrong = (what: string) => new EmbergramError("invalid_params", `response_format${what}`);
  const { type, json_schema: json, ...rest } = Object(format) as Record<string, unknown>;
  const only = (known: readonly string[], value: object, at: string) => {
    const unknown = Object.keys(value).find((key) => !known.includes(key));
    if (unknown !== undefined) throw wrong(`${at}.${unknown} is unknown (known: ${known.join(", ")})`);
  };
  switch (type) {
    case "text":
      return undefined;
    case "json_object":
      return { json_object: true };
    case "json_schema": {
      if (typeof json !== "object" || json === null) throw wrong(".json_schema must be an object { name, schema, strict }");
      only(["name", "description", "schema", "strict"], json, ".json_schema");
      const { schema, strict } = json as JsonSchemaFormat;
      if (strict != null && typeof strict !== "boolean") throw wrong(".json_schema.strict must be true or false");
      if (typeof schema !== "boolean" && (typeof schema !== "object" || schema === null || Array.isArray(schema))) {
        throw wrong(".json_schema.schema must be a JSON schema: an object, true or false");
      }
      return { json: schema };
    }
    case "structural_tag":
      only(["structures", "triggers", "format"], rest, "");
      return { structural_tag: rest as unknown as StructuralTag };
    default: {
      const known = ["text", "json_object", "json_schema", "structural_tag"].map((name) => `"${name}"`).join(", ");
      throw wrong(`.type is ${JSON.stringify(type) ?? String(type)}, but must be one of ${known}`);
    }
  }
}
