/** Formats of tool calls by the family of a model, each by its name in vLLM's `--tool-call-parser`. */
import type { Call, Format, Region, Tool } from "./calls.js";
import { jsonCalls, space, valueEnd } from "./json-calls.js";
import { pythonCalls } from "./python-calls.js";

/** A family. */
export interface Family extends Format {
  /** Whether its marks are special tokens, which the text must keep. */
  special?: boolean;
  /**
   * How calls that must be made are written, in Lark: what begins and ends one, what stands between two, and the key of its
   * arguments. Without, they are a list of JSON.
   */
  written?: { begin: string; end: string; between: string; key: "arguments" | "parameters" };
  /** Whether a chat template is one of the family. */
  fits(template: string): boolean;
}

/** Calls that can be read only when they are whole. */
function python(text: string, whole: boolean, close: string): Region {
  const end = close === "" ? (whole ? text.length : listEnd(text)) : text.indexOf(close);
  if (end < 0) return { calls: [], ...(whole && { failed: true }) };
  const calls = pythonCalls(text.slice(0, end));
  if (!calls) return { calls: [], failed: true };
  return { calls: calls.map((call) => ({ name: call.name, arguments: JSON.stringify(call.arguments) })), end: end + close.length };
}

/** Where a list in brackets ends; -1 where it has not. What is no list fails at once. */
function listEnd(text: string): number {
  const at = space(text, 0);
  if (at < text.length && text[at] !== "[") return text.length;
  let depth = 0;
  let quote = "";
  for (let i = at; i < text.length; i++) {
    const c = text[i]!;
    if (quote !== "") {
      if (c === "\\") i += 1;
      else if (c === quote) quote = "";
    } else if (c === '"' || c === "'") quote = c;
    else if ("[({".includes(c)) depth += 1;
    else if ("])}".includes(c) && --depth === 0) return i + 1;
  }
  return -1;
}

/** `name[ARGS]{...}`, as newer Mistrals have it; several follow one another, each after the mark. */
function namedJson(text: string, whole: boolean): Region {
  const failed = { calls: [], failed: true };
  const at = space(text, 0);
  const name = /^[\w.-]+/.exec(text.slice(at, at + 256))?.[0];
  if (name === undefined) return at >= text.length && !whole ? { calls: [] } : failed;
  let after = at + name.length;
  const rest = text.slice(after);
  if (rest.startsWith("[ARGS]")) after += "[ARGS]".length;
  else if ("[ARGS]".startsWith(rest) && !whole) return { calls: [] };
  after = space(text, after);
  if (after >= text.length) return whole ? failed : { calls: [] };
  if (text[after] !== "{") return failed;
  const end = valueEnd(text, after);
  const call = { name, arguments: text.slice(after, end < 0 ? text.length : end) };
  return { calls: [call], ...(end < 0 ? whole && { failed: true } : { end }) };
}

/** `<function=name><parameter=key>value</parameter></function>`, whose values are texts that the schema gives types to. */
function xml(text: string, whole: boolean, tools: readonly Tool[]): Region {
  const at = space(text, 0);
  const begin = "<function=";
  if (!text.startsWith(begin, at)) {
    return begin.startsWith(text.slice(at)) && !whole ? { calls: [] } : { calls: [], failed: true };
  }
  const close = text.indexOf("</function>", at);
  if (close < 0) return { calls: [], ...(whole && { failed: true }) };
  const body = text.slice(at + begin.length, close);
  const [name = "", ...given] = body.split("<parameter=");
  const function_ = name.replace(/>\s*$/, "").trim();
  const properties = Object(tools.find((tool) => tool.name === function_)?.parameters?.["properties"]) as Record<string, { type?: unknown }>;
  const entries = given.map((parameter): [string, unknown] => {
    const key = parameter.slice(0, parameter.indexOf(">")).trim();
    const value = parameter.slice(parameter.indexOf(">") + 1).replace(/<\/parameter>\s*$/, "").replace(/^\n|\n$/g, "");
    return [key, typed(value, properties[key]?.type)];
  });
  return { calls: [{ name: function_, arguments: JSON.stringify(Object.fromEntries(entries)) }], end: close + "</function>".length };
}

/** A text as a value of this type of JSON Schema, where it can be one. */
function typed(text: string, type: unknown): unknown {
  const types = [type].flat();
  if (types.includes("string") || type === undefined) return type === undefined ? (json(text) ?? text) : text;
  const value = json(text.trim()) ?? ({ True: true, False: false, None: null }[text.trim()] as unknown);
  return value === undefined ? text : value;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Arguments of FunctionGemma: `call:name{key:value}`, texts between `<escape>`. */
function gemmaCall(text: string, whole: boolean): Region {
  const close = text.indexOf("<end_function_call>");
  if (close < 0 && !whole) return { calls: [] };
  const body = close < 0 ? text : text.slice(0, close);
  const match = /^\s*call:([\w.-]+)(\{[^]*\})\s*$/.exec(body);
  const call: Call | undefined = match ? { name: match[1]!, arguments: "" } : undefined;
  // Texts become JSON, then keys do.
  const texts: string[] = [];
  const shape = match?.[2]!.replace(/<escape>([^]*?)<escape>/g, (_, value: string) => `"\u0000${texts.push(value) - 1}"`);
  const quoted = shape?.replace(/([{,]\s*)([\w.-]+)\s*:/g, '$1"$2":');
  const value = quoted === undefined ? undefined : json(quoted.replace(/"\u0000(\d+)"/g, (_, i: string) => JSON.stringify(texts[Number(i)])));
  if (!call || value === undefined) return { calls: [], failed: true };
  return { calls: [{ ...call, arguments: JSON.stringify(value) }], end: close < 0 ? text.length : close };
}

/** By name, the more particular first. */
export const FAMILIES = {
  qwen3_xml: {
    begin: ["<tool_call>"], end: ["</tool_call>"], read: xml,
    fits: (template) => template.includes("<function=") && template.includes("<parameter="),
  },
  mistral: {
    begin: ["[TOOL_CALLS]"], end: [], special: true,
    read: (text, whole) => (/^\s*(\[(?!ARGS)|\{|$)/.test(text) ? jsonCalls(text, whole) : namedJson(text, whole)),
    fits: (template) => template.includes("[TOOL_CALLS]"),
  },
  granite: {
    begin: ["<|tool_call|>", "<tool_call>", "<function_call>"], end: ["</tool_call>"], special: true,
    read: (text, whole) => jsonCalls(text, whole, ["<function_call>"]),
    fits: (template) => template.includes("<|tool_call|>") || template.includes("<|start_of_role|>"),
  },
  phi4_mini_json: {
    begin: ["functools", "<|tool_call|>"], end: ["<|/tool_call|>"], special: true, read: (text, whole) => jsonCalls(text, whole),
    fits: (template) => template.includes("<|tool|>"),
  },
  functiongemma: {
    begin: ["<start_function_call>"], end: ["<end_function_call>"], special: true, read: gemmaCall,
    fits: (template) => template.includes("<start_function_call>"),
  },
  hermes: {
    begin: ["<tool_call>"], end: ["</tool_call>"], read: (text, whole) => jsonCalls(text, whole),
    written: { begin: "<tool_call>\n", end: "\n</tool_call>", between: "\n", key: "arguments" },
    fits: (template) => template.includes("<tool_call>") || template.includes("<tools>"),
  },
  pythonic: {
    begin: ["<|python_start|>", ""], end: ["<|python_end|>"], special: true, read: (text, whole) => python(text, whole, ""),
    fits: (template) => /\[\s*func_name1?\(/.test(template),
  },
  llama3_json: {
    begin: ["<|python_tag|>", ""], end: [], special: true, read: (text, whole) => jsonCalls(text, whole, [";", ","]),
    fits: (template) => template.includes("<|python_tag|>") || (template.includes("<|start_header_id|>") && template.includes('"parameters"')),
  },
  gemma: {
    begin: ["```tool_code", "```tool_call", "```json"], end: ["```"],
    read: (text, whole) => {
      const python_ = python(text, whole, "```");
      return python_.failed ? jsonFence(text, whole) : python_;
    },
    fits: (template) => template.includes("<start_of_turn>"),
  },
} as const satisfies Record<string, Family>;

/** JSON of calls before the end of a fence. */
function jsonFence(text: string, whole: boolean): Region {
  const region = jsonCalls(text, whole);
  return region.calls.length === 0 && region.end !== undefined ? { calls: [], failed: true } : region;
}

/** Their names. */
export type FamilyName = keyof typeof FAMILIES;

/** The family of a chat template; `undefined` where it has none that is known. */
export function familyOf(template: string | null | undefined): FamilyName | undefined {
  const entries = Object.entries(FAMILIES) as [FamilyName, Family][];
  return template == null ? undefined : entries.find(([, family]) => family.fits(template))?.[0];
}
