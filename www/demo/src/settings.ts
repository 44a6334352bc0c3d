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
  const stop = text("stop").split("\n").filter((line) => line !== "").map((line) => line.replaceAll("\\n", "\n"));
  const all = {
    max_tokens: number("max_tokens") ?? null,
    temperature: number("temperature"),
    top_k: number("top_k"),
    top_p: number("top_p"),
    min_p: number("min_p"),
    seed: number("seed"),
    stop: stop.length > 0 ? stop : undefined,
  };
  const params = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as SamplingParams;
  return { params, speculation: speculativeConfig(text("speculation")), system: text("system").trim() };
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
