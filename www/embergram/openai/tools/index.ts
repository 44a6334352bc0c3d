/** Tools: what a request says of them, and how an answer that calls them is read. */
import { EmbergramError } from "../../error.js";
import type { ChatTemplateOptions, SamplingParams, StructuredOutputs } from "../../types.js";
import { predictionOf } from "../prediction.js";
import { outputsOf } from "../structured.js";
import { CallParser, type Format, type Tool } from "./calls.js";
import { FAMILIES, familyOf, type Family, type FamilyName } from "./families.js";
import { jsonCalls } from "./json-calls.js";
import { beginsInThought, ThoughtSplitter } from "./reasoning.js";

export { FAMILIES, familyOf, type FamilyName };

/** What a chat's body has to say of it; values as they come. */
export interface ToolBody {
  tools?: unknown;
  tool_choice?: unknown;
  parallel_tool_calls?: unknown;
  response_format?: unknown;
  structured_outputs?: unknown;
  prediction?: unknown;
  include_reasoning?: unknown;
}

/** A call of a function. */
export interface ToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

/** What new text adds to calls: the first of each has its id and name. */
export interface ToolCallDelta {
  index: number;
  id?: string;
  type?: "function";
  function: { name?: string; arguments: string };
}

/** What a text adds to a message. */
export interface MessageDelta {
  content?: string;
  /** vLLM's name of a thought, and the one that it had before and others have. */
  reasoning?: string;
  reasoning_content?: string;
  tool_calls?: ToolCallDelta[];
}

/** What a text is as a message. */
export type WholeMessage = {
  content: string | null;
  reasoning_content?: string;
  tool_calls?: ToolCall[];
};

/** Reads the text of one choice, as a whole or as it comes. */
export interface MessageReader {
  /** The message of a whole text, and why it ended where that is another reason than the engine's. */
  whole(text: string): { message: WholeMessage; finish_reason?: "tool_calls" };
  /** What new text adds to the message; `null` where that is nothing to tell yet. */
  delta(text: string, finished: boolean): { delta: MessageDelta; finish_reason?: "tool_calls" } | null;
}

/** What a body asks of tools and of its answer's shape. */
export interface Extension {
  params: Partial<SamplingParams>;
  template: Pick<ChatTemplateOptions, "tools">;
  reader(): MessageReader;
}

/**
 * Reads what a chat's body asks of its answer: a shape, tools, a prediction.
 *
 * @param chatTemplate the model's, by which the format of its calls is known
 * @throws {EmbergramError} `invalid_params`
 */
export function extensionOf(body: ToolBody, chatTemplate: string | null | undefined): Extension {
  const outputs = outputsOf(body.response_format);
  if (outputs && body.structured_outputs != null) throw wrong("response_format and structured_outputs both say what the answer must fit; give one");
  const own = outputs ?? (body.structured_outputs as SamplingParams["structured_outputs"]) ?? undefined;
  const prediction = predictionOf(body.prediction);
  const shape: Partial<SamplingParams> = { ...(own && { structured_outputs: own }), ...(prediction !== undefined && { prediction }) };
  const tools = toolsOf(body.tools);
  const choice = choiceOf(body.tool_choice, tools);
  if (body.parallel_tool_calls != null && typeof body.parallel_tool_calls !== "boolean") {
    throw wrong(`parallel_tool_calls is ${shown(body.parallel_tool_calls)}, but must be true or false`);
  }
  const most = body.parallel_tool_calls === false ? 1 : Infinity;
  const thinks = chatTemplate?.includes("</think>") ?? false;
  const inside = beginsInThought(chatTemplate);
  const tells = body.include_reasoning !== false;
  const reader = (format: Format | undefined, forced: boolean, ids: () => string) => () =>
    new Reader(format && new CallParser(format, tools), thinks ? new ThoughtSplitter(inside) : undefined, most, forced, ids, null, tells);
  // With "none" the model does not hear of tools, so that it calls none.
  if (choice === "none" || tools.length === 0) return { params: shape, template: {}, reader: reader(undefined, false, newId) };
  const template = { tools: body.tools as readonly object[] };
  const name = familyOf(chatTemplate);
  const ids = name === "mistral" ? shortId : newId;
  if (choice === "auto") {
    const family: Family | undefined = name && FAMILIES[name];
    const params = family?.special ? { ...shape, skip_special_tokens: false } : shape;
    return { params, template, reader: reader(family, false, ids) };
  }
  if (own) throw wrong("tool_choice says what the answer must be, and so does response_format or structured_outputs; give one");
  const callable = choice === "required" ? tools : tools.filter((tool) => tool.name === choice.name);
  const named = choice !== "required";
  // The grammar holds from the first token, so nothing is thought before.
  const family: Family | undefined = name && FAMILIES[name];
  const { outputs: structured_outputs, format } = required(callable, named ? 1 : most, family);
  return {
    params: { ...shape, structured_outputs }, template,
    reader: () => new Reader(new CallParser(format, tools), undefined, most, named, ids, ""),
  };
}

class Reader implements MessageReader {
  #called = new Set<number>();

  constructor(
    readonly parser: CallParser | undefined,
    readonly thoughts: ThoughtSplitter | undefined,
    readonly most: number,
    /** Whether the call was the caller's choice: OpenAI and vLLM have it end with `stop` then. */
    readonly named: boolean,
    readonly ids: () => string,
    /** The content of a message that only calls. */
    readonly empty: "" | null = null,
    /** Whether thoughts are told. */
    readonly tells = true,
  ) {}

  whole(text: string): ReturnType<MessageReader["whole"]> {
    const read = this.delta(text, true);
    const { content, reasoning_content, tool_calls = [] } = read?.delta ?? {};
    const calls = tool_calls.map(({ id, function: { name, arguments: given } }): ToolCall => ({
      id: id!, type: "function", function: { name: name!, arguments: given },
    }));
    const message: WholeMessage = {
      content: content ?? (calls.length > 0 ? this.empty : ""),
      ...(reasoning_content !== undefined && { reasoning_content }),
      ...(calls.length > 0 && { tool_calls: calls }),
    };
    return { message, ...(read?.finish_reason && { finish_reason: read.finish_reason }) };
  }

  delta(text: string, finished: boolean): ReturnType<MessageReader["delta"]> {
    const { thought, answer } = this.thoughts?.push(text, finished) ?? { thought: "", answer: text };
    const delta: MessageDelta = {};
    if (thought !== "" && this.tells) delta.reasoning = delta.reasoning_content = thought;
    if (!this.parser) {
      if (answer !== "") delta.content = answer;
    } else {
      for (const part of [...this.parser.push(answer), ...(finished ? this.parser.end() : [])]) {
        if ("text" in part) delta.content = (delta.content ?? "") + part.text;
        else if (part.call < this.most) this.#add((delta.tool_calls ??= []), part);
      }
    }
    const calls = finished && this.#called.size > 0 && !this.named;
    if (Object.keys(delta).length === 0 && !calls) return null;
    return { delta, ...(calls && { finish_reason: "tool_calls" as const }) };
  }

  #add(deltas: ToolCallDelta[], part: { call: number; name: string } | { call: number; arguments: string }): void {
    if ("name" in part) {
      this.#called.add(part.call);
      deltas.push({ index: part.call, id: this.ids(), type: "function", function: { name: part.name, arguments: "" } });
      return;
    }
    const open = deltas.find(({ index }) => index === part.call);
    if (open) open.function.arguments += part.arguments;
    else deltas.push({ index: part.call, function: { arguments: part.arguments } });
  }
}

/** White space as `json.dumps` has it: what models saw of calls. */
const SPACED = { whitespace_flexible: false, item_separator: ", ", key_separator: ": " };

/** What guarantees calls, as the family writes them, and how they are read. */
function required(tools: readonly Tool[], most: number, family: Family | undefined): { outputs: StructuredOutputs; format: Format } {
  const written = family?.written;
  if (!family || !written) {
    const format: Format = { begin: [""], end: [], read: (text, whole) => jsonCalls(text, whole) };
    return { outputs: { json: { ...callsSchema(tools, most), "x-guidance": SPACED } }, format };
  }
  const { begin, end, between, key } = written;
  const call = { ...callSchema(tools, key), "x-guidance": SPACED };
  const [first, more, last] = [begin, between, end].map((text) => JSON.stringify(text));
  const grammar = `start: call${most === 1 ? "" : ` (${more} call)*`}\ncall: ${first} body ${last}\nbody: %json ${JSON.stringify(call)}\n`;
  return { outputs: { grammar }, format: family };
}

/** The schema of a list of calls, as vLLM's server has it: `[{ name, parameters }]`. */
export function callsSchema(tools: readonly Tool[], most: number): object {
  const { $defs, ...items } = callSchema(tools, "parameters");
  return { type: "array", items, minItems: 1, ...(most < Infinity && { maxItems: most }), ...($defs && { $defs }) };
}

/** The schema of one call of any of these. */
function callSchema(tools: readonly Tool[], key: string): { $defs?: Record<string, unknown> } & Record<string, unknown> {
  const defs: Record<string, unknown> = {};
  const items = tools.map(({ name, parameters = { type: "object" } }, i) => {
    // References lead from the root, so a schema that has some goes where they can be found.
    const within = `#/$defs/tool${i}`;
    const moved = relocated(parameters, within);
    if (moved.has) defs[`tool${i}`] = moved.schema;
    return {
      type: "object", properties: { name: { const: name }, [key]: moved.has ? { $ref: within } : parameters },
      required: ["name", key], additionalProperties: false,
    };
  });
  return { ...(items.length === 1 ? items[0] : { anyOf: items }), ...(Object.keys(defs).length > 0 && { $defs: defs }) };
}

/** A schema whose references lead from another place, and whether it has any. */
function relocated(schema: unknown, to: string): { schema: unknown; has: boolean } {
  let has = false;
  const move = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(move);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => {
      if (key !== "$ref" || typeof inner !== "string" || !inner.startsWith("#")) return [key, move(inner)];
      has = true;
      return [key, to + inner.slice(1)];
    }));
  };
  return { schema: move(schema), has };
}

function toolsOf(value: unknown): Tool[] {
  if (value == null) return [];
  if (!Array.isArray(value)) throw wrong(`tools is ${shown(value)}, but must be a list of { type: "function", function: { name, parameters } }`);
  const names = new Set<string>();
  return value.map((tool: unknown, i): Tool => {
    const { type, function: described } = Object(tool) as { type?: unknown; function?: unknown };
    const { name, parameters } = Object(described) as { name?: unknown; parameters?: unknown };
    if (type !== "function") throw wrong(`tools[${i}].type is ${shown(type)}, but must be "function"`);
    if (typeof name !== "string" || name === "") throw wrong(`tools[${i}].function.name is ${shown(name)}, but must be a text that is not empty`);
    if (names.has(name)) throw wrong(`tools[${i}].function.name is ${shown(name)}, which another tool has; names must differ`);
    names.add(name);
    if (parameters != null && (typeof parameters !== "object" || Array.isArray(parameters))) {
      throw wrong(`tools[${i}].function.parameters is ${shown(parameters)}, but must be a JSON schema`);
    }
    return { name, parameters: (parameters ?? undefined) as Tool["parameters"] };
  });
}

function choiceOf(value: unknown, tools: readonly Tool[]): "none" | "auto" | "required" | Tool {
  if (value == null) return tools.length > 0 ? "auto" : "none";
  if (value === "none") return "none";
  if (tools.length === 0) throw wrong("tool_choice needs tools");
  if (value === "auto" || value === "required") return value;
  const { type, function: named } = Object(value) as { type?: unknown; function?: unknown };
  const { name } = Object(named) as { name?: unknown };
  if (type !== "function" || typeof name !== "string") {
    throw wrong(`tool_choice is ${shown(value)}, but must be "none", "auto", "required" or { type: "function", function: { name } }`);
  }
  const tool = tools.find((tool) => tool.name === name);
  if (!tool) throw wrong(`tool_choice names ${shown(name)}, but the tools are ${tools.map(({ name }) => shown(name)).join(", ")}`);
  return tool;
}

/** As vLLM has them. */
function newId(): string {
  return `chatcmpl-tool-${crypto.randomUUID().replaceAll("-", "").slice(0, 16)}`;
}

/** As Mistral's templates want them. */
function shortId(): string {
  return crypto.randomUUID().replaceAll("-", "").slice(0, 9);
}

function wrong(message: string): EmbergramError {
  return new EmbergramError("invalid_params", message);
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
