/**
 * Calls as JSON, as far as it has come: `{ "name": ..., "arguments": {...} }`, one, several, or a list of them. The arguments are
 * the model's own text.
 */
import type { Call, Region } from "./calls.js";

/** Keys of a call's arguments; Llama has `parameters`. */
const ARGUMENTS = ["arguments", "parameters"];

/** Reads calls: a list, or objects with one of `between` between them. */
export function jsonCalls(text: string, whole: boolean, between: readonly string[] = []): Region {
  const calls: Call[] = [];
  let at = space(text, 0);
  const list = text[at] === "[";
  if (list) at = space(text, at + 1);
  for (;;) {
    if (at >= text.length) return { calls, ...(whole && { failed: true }) };
    if (list && text[at] === "]") return { calls, end: at + 1 };
    const call = jsonCall(text, at);
    if (call.failed) return { calls, failed: true };
    if (call.name !== undefined) calls.push({ name: call.name, arguments: call.arguments ?? (call.end === undefined ? "" : "{}") });
    else if (call.end !== undefined) return { calls, failed: true };
    if (call.end === undefined) return { calls, ...(whole && { failed: true }) };
    const after = space(text, call.end);
    const next = list ? [","] : between;
    const separator = next.find((mark) => text.startsWith(mark, after));
    if (separator !== undefined && (list || text[space(text, after + separator.length)] === "{")) at = space(text, after + separator.length);
    else if (list) at = after;
    else if (!whole && between.length > 0 && (after >= text.length || (separator !== undefined && space(text, after + separator.length) >= text.length))) return { calls };
    else return { calls, end: call.end };
    if (list && separator === undefined && at < text.length && text[at] !== "]") return { calls, failed: true };
  }
}

/** What is known of a call that begins at `at`. */
interface Open {
  name?: string;
  arguments?: string;
  end?: number;
  failed?: boolean;
}

function jsonCall(text: string, at: number): Open {
  if (text[at] !== "{") return { failed: true };
  const call: Open = {};
  at = space(text, at + 1);
  while (at < text.length) {
    if (text[at] === "}") return { ...call, end: at + 1 };
    if (text[at] !== '"') return { failed: true };
    const keyEnd = valueEnd(text, at);
    if (keyEnd < 0) return call;
    const key = string(text.slice(at, keyEnd));
    at = space(text, keyEnd);
    if (at >= text.length) return call;
    if (key === undefined || text[at] !== ":") return { failed: true };
    at = space(text, at + 1);
    if (at >= text.length) return call;
    const end = valueEnd(text, at);
    if (ARGUMENTS.includes(key)) {
      // Some write the arguments' JSON as a text.
      if (text[at] !== '"') call.arguments = text.slice(at, end < 0 ? text.length : end);
      else if (end >= 0) call.arguments = string(text.slice(at, end)) ?? "";
    } else if (key === "name" && end >= 0) {
      const name = string(text.slice(at, end));
      if (name === undefined) return { failed: true };
      call.name = name;
    }
    if (end < 0) return call;
    at = space(text, end);
    if (text[at] === ",") at = space(text, at + 1);
    else if (at < text.length && text[at] !== "}") return { failed: true };
  }
  return call;
}

export function space(text: string, at: number): number {
  while (at < text.length && /\s/.test(text[at]!)) at += 1;
  return at;
}

/** Where the JSON value that begins at `at` ends; -1 where it has not. */
export function valueEnd(text: string, at: number): number {
  let depth = 0;
  let inString = false;
  const scalar = !/["{[]/.test(text[at] ?? "");
  for (let i = at; i < text.length; i++) {
    const c = text[i]!;
    if (scalar) {
      if (/[\s,}\]]/.test(c)) return i;
    } else if (inString) {
      if (c === "\\") i += 1;
      else if (c === '"') {
        inString = false;
        if (depth === 0) return i + 1;
      }
    } else if (c === '"') inString = true;
    else if (c === "{" || c === "[") depth += 1;
    else if (c === "}" || c === "]") {
      depth -= 1;
      if (depth === 0) return i + 1;
    }
  }
  return -1;
}

function string(json: string): string | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}
