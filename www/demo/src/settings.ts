/** The form of a request's settings. */
import type { SamplingParams, SpeculativeConfig } from "embergram";
import { byId, valid } from "./dom.js";

export interface Settings {
  params: SamplingParams;
  speculation: SpeculativeConfig | null;
  /** For chat; empty is the template's own. */
  system: string;
}

/** The settings; `null` when one is out of range, which the browser then points out. */
export function readSettings(): Settings | null {
  const form = byId<HTMLFormElement>("settings");
  if (!valid(form)) return null;
  const data = new FormData(form);
  const text = (name: string) => String(data.get(name) ?? "");
  const number = (name: string) => (text(name).trim() === "" ? undefined : Number(text(name)));
  const schema = readSchema();
  if (schema === null) return null;
  const stop = text("stop").split("\n").filter((line) => line !== "").map((line) => line.replaceAll("\\n", "\n"));
  const all = {
    max_tokens: number("max_tokens") ?? null,
    temperature: number("temperature"),
    top_k: number("top_k"),
    top_p: number("top_p"),
    min_p: number("min_p"),
    seed: number("seed"),
    stop: stop.length > 0 ? stop : undefined,
    structured_outputs: schema && { json: schema },
  };
  const params = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as SamplingParams;
  return { params, speculation: speculativeConfig(text("speculation")), system: text("system").trim() };
}

/** A schema that leaves some choice, and the order of its keys to the grammar. */
const SCHEMA = {
  type: "object",
  properties: { name: { type: "string", maxLength: 20 }, age: { type: "integer", minimum: 0, maximum: 150 }, languages: { type: "array", items: { enum: ["English", "French", "German"] }, maxItems: 3 } },
  required: ["name", "age", "languages"],
  additionalProperties: false,
};

export function setUpSchema(): void {
  const field = schemaField();
  byId("schema-example").addEventListener("click", () => {
    field.value = JSON.stringify(SCHEMA, null, 2);
    field.setCustomValidity("");
  });
  field.addEventListener("input", () => field.setCustomValidity(""));
}

function schemaField(): HTMLTextAreaElement {
  return byId<HTMLFormElement>("settings").elements.namedItem("schema") as HTMLTextAreaElement;
}

/** The schema, `undefined` without one; `null` where it is no JSON, which is then pointed out. */
function readSchema(): object | undefined | null {
  const field = schemaField();
  return field.value.trim() === "" ? undefined : readJson(field);
}

/** What a field holds as JSON; `null` where that is no object, which is then pointed out. */
export function readJson(field: HTMLTextAreaElement): object | null {
  let value: unknown;
  let wrong = "";
  try {
    value = JSON.parse(field.value);
    if (typeof value !== "object" || value === null || Array.isArray(value)) wrong = "This must be a JSON object.";
  } catch (error) {
    wrong = `This is no JSON: ${(error as Error).message}`;
  }
  field.setCustomValidity(wrong);
  return valid(field.form!) ? (value as object) : null;
}

/** Speculation with this K and the form's n-gram lengths; `off` and 0 are none. */
export function speculativeConfig(k: string): SpeculativeConfig | null {
  if (k === "off" || k === "0") return null;
  const form = byId<HTMLFormElement>("settings");
  const length = (name: string) => Number(new FormData(form).get(name));
  return {
    method: "ngram",
    num_speculative_tokens: k === "auto" ? "auto" : Number(k),
    prompt_lookup_min: length("lookup_min"),
    prompt_lookup_max: length("lookup_max"),
  };
}

/** Chooses a K in the form, which may not have been offered before. */
export function chooseSpeculation(k: string): void {
  const select = byId<HTMLSelectElement>("speculation");
  const value = k === "0" ? "off" : k;
  if (![...select.options].some((option) => option.value === value)) {
    const later = [...select.options].find((option) => Number(option.value) > Number(value) || option.value === "auto");
    select.add(new Option(value), later ?? null);
  }
  select.value = value;
}
