/** What each backend that ran here made of its last answer. */
import type { Llm, RequestOutput } from "embergram";
import { adapterLabel } from "./backend.js";
import { byId, make } from "./dom.js";
import * as format from "./format.js";
import type { Monitor } from "./monitor.js";

const rows = new Map<string, HTMLTableRowElement>();

/** Puts an answer into its backend's row. */
export function showRun({ model }: Llm, { metrics }: RequestOutput, monitor: Monitor): void {
  if (!metrics) return;
  const name = adapterLabel(model.adapter);
  const { num_prompt_tokens, num_cached_tokens, num_generation_tokens, prefill_time, decode_time } = metrics;
  const computed = num_prompt_tokens - num_cached_tokens;
  const per = (tokens: number, seconds: number | null) => (seconds ? format.rate(tokens / seconds) : format.rate(null));
  const cells = [
    format.bytes(monitor.latest?.reading.gpuMemoryBytes), per(computed, prefill_time), per(num_generation_tokens - 1, decode_time),
  ];
  const row = make("tr", {}, make("th", { scope: "row", title: model.name }, name), ...cells.map((text) => make("td", {}, text)));
  rows.delete(name);
  byId("backend-rows").replaceChildren(...rows.set(name, row).values());
}
