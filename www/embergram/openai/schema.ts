/** Checks of a body's types, with the words of pydantic, which vLLM's server checks with. */
import { ApiError } from "./errors.js";
import { repr, str } from "./python.js";

interface Problem {
  type: string;
  loc: string;
  msg: string;
  input: unknown;
  ctx?: string;
}

/** Checks a value and gives what it stands for; what is wrong goes to `problems`. */
export type Type = (value: unknown, loc: string, problems: Problem[]) => unknown;

type Make = (type: string, msg: string, ctx?: string) => undefined;

function checked(check: (value: unknown, wrong: Make, loc: string, problems: Problem[]) => unknown): Type {
  return (value, loc, problems) =>
    check(value, (type, msg, ctx) => void problems.push({ type, loc, msg, input: value, ...(ctx !== undefined && { ctx }) }), loc, problems);
}

/** A whole number, which may come as a text. */
export function int(least = -Infinity): Type {
  return checked((value, wrong) => {
    const text = typeof value === "string" ? value.trim() : undefined;
    if (text !== undefined && !/^[-+]?\d+(?:\.0+)?$/.test(text)) return wrong("int_parsing", "Input should be a valid integer, unable to parse string as an integer");
    if (text === undefined && typeof value !== "number" && typeof value !== "boolean") return wrong("int_type", "Input should be a valid integer");
    const number = Number(text ?? value);
    if (!Number.isInteger(number)) return wrong("int_from_float", "Input should be a valid integer, got a number with a fractional part");
    if (number < least) return wrong("greater_than_equal", `Input should be greater than or equal to ${least}`, `{'ge': ${least}}`);
    return number;
  });
}

/** A number, which may come as a text. */
export const number: Type = checked((value, wrong) => {
  if (typeof value === "string") {
    const parsed = value.trim() === "" ? NaN : Number(value);
    return Number.isNaN(parsed) ? wrong("float_parsing", "Input should be a valid number, unable to parse string as a number") : parsed;
  }
  return typeof value === "number" || typeof value === "boolean" ? Number(value) : wrong("float_type", "Input should be a valid number");
});

/** A truth value, which may come as a number or a text. */
export const bool: Type = checked((value, wrong) => {
  if (typeof value === "boolean") return value;
  if (typeof value !== "string" && !Number.isInteger(value)) return wrong("bool_type", "Input should be a valid boolean");
  const word = String(value).toLowerCase();
  if (["1", "true", "t", "yes", "y", "on"].includes(word)) return true;
  if (["0", "false", "f", "no", "n", "off"].includes(word)) return false;
  return wrong("bool_parsing", "Input should be a valid boolean, unable to interpret input");
});

/** A text. */
export const text: Type = checked((value, wrong) => (typeof value === "string" ? value : wrong("string_type", "Input should be a valid string")));

/** An object. */
export const object: Type = checked((value, wrong) => (isObject(value) ? value : wrong("dict_type", "Input should be a valid dictionary")));

/** An object of values of a type. */
export function record(type: Type): Type {
  return checked((value, wrong, loc, problems) => {
    if (!isObject(value)) return wrong("dict_type", "Input should be a valid dictionary");
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, type(one, `${loc}.${key}`, problems)]));
  });
}

/** A list. */
export function list(type: Type): Type {
  return checked((value, wrong, loc, problems) =>
    Array.isArray(value) ? value.map((one, i) => type(one, `${loc}.${i}`, problems)) : wrong("list_type", "Input should be a valid list"));
}

/** One of some texts. */
export function literal(...words: string[]): Type {
  const all = words.map(repr);
  const expected = all.length > 1 ? `${all.slice(0, -1).join(", ")} or ${all.at(-1)}` : all[0]!;
  return checked((value, wrong) =>
    words.includes(value as string) ? value : wrong("literal_error", `Input should be ${expected}`, `{'expected': ${repr(expected)}}`));
}

/** The first of several types that fits; what is wrong is wrong for each. */
export function either(...types: Type[]): Type {
  return (value, loc, problems) => {
    const tried: Problem[] = [];
    for (const type of types) {
      const own: Problem[] = [];
      const read = type(value, loc, own);
      if (own.length === 0) return read;
      tried.push(...own);
    }
    problems.push(...tried);
  };
}

/** A value that may be null. */
export function nullable(type: Type): Type {
  return (value, loc, problems) => (value === null ? null : type(value, loc, problems));
}

/** Anything. */
export const any: Type = (value) => value;

/** A kind of body: its fields, and those that must be there. */
export interface Shape {
  fields: Readonly<Record<string, Type>>;
  required: readonly string[];
}

/** A body of the first of these shapes that fits; what is wrong is wrong for each. Keys that it does not know stay as they are. */
export function readBody(body: unknown, ...shapes: Shape[]): Record<string, unknown> {
  if (body == null) throw refusal([{ type: "missing", loc: "body", msg: "Field required", input: body }]);
  const wrong: Problem[] = [];
  for (const { fields, required } of shapes) {
    const problems: Problem[] = [];
    const read = readShape(body, fields, required, problems);
    if (problems.length === 0) return read;
    wrong.push(...problems);
  }
  throw refusal(wrong);
}

function readShape(body: unknown, fields: Shape["fields"], required: Shape["required"], problems: Problem[]): Record<string, unknown> {
  if (!isObject(body)) {
    const msg = "Input should be a valid dictionary or object to extract fields from";
    problems.push({ type: "model_attributes_type", loc: "body", msg, input: body });
    return {};
  }
  const read: Record<string, unknown> = { ...body };
  for (const [key, type] of Object.entries(fields)) {
    const value = body[key];
    if (value !== undefined) read[key] = type(value, `body.${key}`, problems);
    else if (required.includes(key)) problems.push({ type: "missing", loc: `body.${key}`, msg: "Field required", input: body });
  }
  return read;
}

/** The refusal of a text that is no JSON. */
export function notJson({ at, message }: { at: number; message: string }): ApiError {
  return refusal([{ type: "json_invalid", loc: `body.${at}`, msg: "JSON decode error", input: {}, ctx: `{'error': ${repr(message)}}` }]);
}

/** The refusal of another content type. */
export function notJsonType(): ApiError {
  return badRequest("1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed", null);
}

const MOST_PROBLEMS = 10;

function refusal(problems: readonly Problem[]): ApiError {
  const label = problems.length === 1 ? "error" : "errors";
  const lines = problems.slice(0, MOST_PROBLEMS).map((problem) => `  ${shown(problem)}\n`).join("");
  const more = problems.length > MOST_PROBLEMS ? `  ...and ${problems.length - MOST_PROBLEMS} more ${label}\n` : "";
  return badRequest(`${problems.length} validation ${label}:\n${lines}${more}`.trim(), problems[0]!.loc);
}

function badRequest(message: string, param: string | null): ApiError {
  return new ApiError(400, "Bad Request", message, param);
}

function shown({ type, loc, msg, input, ctx }: Problem): string {
  const own = `{'type': ${repr(type)}, 'loc': ${repr(loc)}, 'msg': ${repr(msg)}, 'input': ${repr(summary(input))}${ctx === undefined ? "" : `, 'ctx': ${ctx}`}}`;
  return own.length > 1000 ? `${own.slice(0, 1000)}...[truncated]` : own;
}

function summary(input: unknown): string {
  if (Array.isArray(input)) return `<list of ${input.length} items>`;
  if (isObject(input)) return `<dict of ${Object.values(input).filter((value) => value !== undefined).length} items>`;
  const whole = typeof input === "string" ? input : str(input);
  return whole.length > 200 ? `${whole.slice(0, 200)}...[truncated]` : whole;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
