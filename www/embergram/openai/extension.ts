/** Where structured outputs and tool calls plug into the doors: what a body asks of them, and how a text becomes a message. */
import type { ChatTemplateOptions, SamplingParams } from "../types.js";
import { invalid } from "./errors.js";
import { namesOf, type Kind } from "./fields.js";

/** What the body's extensions add to a request, and how its answers are read. */
export interface Extension {
  params: Partial<SamplingParams>;
  template: Pick<ChatTemplateOptions, "tools">;
  /** A reader for one choice. */
  reader(): Reader;
}

/** Reads the text of one choice, as a whole or as it comes. */
export interface Reader {
  /** The message of a whole text, and why it ended where that is another reason than the engine's. */
  whole(text: string): { message: Record<string, unknown>; finish_reason?: string };
  /** What new text adds to the message; `null` where that is nothing to tell yet. */
  delta(text: string, finished: boolean): { delta: Record<string, unknown>; finish_reason?: string } | null;
}

/** A message is its text. */
const PLAIN: Reader = {
  whole: (text) => ({ message: { content: text } }),
  delta: (text) => (text === "" ? null : { delta: { content: text } }),
};

/** Values that ask for nothing. */
const HARMLESS: Readonly<Record<string, (value: unknown) => boolean>> = {
  response_format: (value) => (value as { type?: unknown }).type === "text",
  tool_choice: (value) => value === "none",
  parallel_tool_calls: () => true,
};

/** Reads what a body asks of structured outputs and tools. */
export function extend(kind: Kind, body: Readonly<Record<string, unknown>>): Extension {
  for (const name of namesOf(kind, "extension")) {
    const value = body[name];
    if (value != null && !HARMLESS[name]?.(value)) throw invalid(`${name} is not supported yet; leave it out`, name);
  }
  return { params: {}, template: {}, reader: () => PLAIN };
}
