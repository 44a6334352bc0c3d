/** Tuning: every prompt at every K, compared. */
import type { SpeculativeConfig, TuneResult, TuneRow } from "embergram";
import { hideError, showError } from "./alert.js";
import { barChart, lineChart, type Chart, type Line } from "./chart.js";
import { byId, keepFocus, make, valid } from "./dom.js";
import * as format from "./format.js";
import type { Monitor } from "./monitor.js";
import { chooseSpeculation, readSettings, speculativeConfig } from "./settings.js";
import type { Store } from "./store.js";

const PROMPTS = `def area(width, height):
    """Returns the area of a rectangle."""
    return width * height

def perimeter(width, height):
    """Returns the perimeter of a rectangle."""
---
Name: Ada Lovelace; Born: 1815; Field: mathematics.
Name: Alan Turing; Born: 1912; Field: computer science.
Name: Grace Hopper; Born: 1906; Field:
---
The water cycle has four stages. In the first stage,`;

/** Lines that can be told apart without their colours. */
const LINES: readonly Omit<Line, "label">[] = [
  { color: "--series-0" },
  { color: "--series-1", dash: [8, 4] },
  { color: "--series-2", dash: [2, 3] },
  { color: "--series-3", dash: [10, 3, 2, 3] },
  { color: "--series-4", dash: [4, 4] },
];

export function setUpTunePanel(store: Store, monitor: Monitor): void {
  const form = byId<HTMLFormElement>("tune-form");
  const ks = byId<HTMLInputElement>("tune-ks");
  const stop = byId<HTMLButtonElement>("tune-stop");
  const bar = byId<HTMLProgressElement>("tune-progress");
  const status = byId("tune-status");
  const apply = byId<HTMLButtonElement>("apply");
  const parent = byId("tune-charts");
  const prompts = byId<HTMLTextAreaElement>("tune-prompts");
  let aborter = new AbortController();
  let result: TuneResult | null = null;
  let names: string[] = [];

  prompts.value = PROMPTS;
  const speeds = barChart(parent, {
    id: "chart-speeds", title: "Tokens/s by K", value: (y) => `${format.rate(y)} tokens/s`, tick: format.rate,
    place: (x) => names[x] ?? "", top: 1, wide: true,
  });
  const legend = byId("tune-lines");
  let curves: Chart | undefined;
  showCurves([]);

  async function tune(): Promise<void> {
    const { llm, busy } = store.state;
    const settings = readSettings();
    if (!llm || busy || !settings || !validKs() || !valid(form)) return;
    const samples = prompts.value.split(/^---+\s*$/m).map((text) => text.replace(/^\n|\n$/g, "")).filter((text) => text.trim() !== "");
    const configs = listed().map(speculativeConfig);
    hideError();
    aborter = new AbortController();
    store.set({ busy: "tune" });
    bar.value = 0;
    try {
      const params = { ...settings.params, max_tokens: Number(byId<HTMLInputElement>("tune-tokens").value) };
      result = await monitor.during(() => llm.tune(samples, configs, params, {
        rounds: Number(byId<HTMLInputElement>("tune-rounds").value),
        signal: aborter.signal,
        onProgress: ({ done, total, label }) => {
          bar.value = done / total;
          if (label !== null) status.textContent = `Run ${done + 1} of ${total}: ${label}`;
        },
      }));
      show(result);
      status.textContent = result.same_tokens
        ? "Done. Every K gave the same tokens."
        : "Done, but not every K gave the same tokens. That is a fault: please report it.";
    } catch (error) {
      bar.value = 0;
      status.textContent = aborter.signal.aborted ? "Stopped." : "Tuning failed.";
      showError(error);
    } finally {
      store.set({ busy: null });
    }
  }

  /** The Ks of the form: numbers from 0, and `auto`. */
  function listed(): string[] {
    return [...new Set(ks.value.toLowerCase().split(/[\s,]+/).filter(Boolean))];
  }

  function validKs(): boolean {
    const all = listed();
    const known = (k: string) => k === "auto" || (/^\d+$/.test(k) && Number(k) <= 64);
    ks.setCustomValidity(all.length > 0 && all.every(known) ? "" : "Give numbers from 0 to 64, or auto, with commas between: 0, 3, 5, auto");
    return ks.reportValidity();
  }

  function show({ rows, recommended, reason }: TuneResult): void {
    names = rows.map(({ config }) => nameOf(config));
    speeds.update(
      [rows.map((_, i) => i), rows.map((row) => row.tokens_per_second)],
      `best ${format.rate(Math.max(...rows.map((row) => row.tokens_per_second)))}`,
      rows.map((row, i) => `${names[i]}: ${format.rate(row.tokens_per_second)}`).join(", "),
    );
    showCurves(rows);
    const plain = rows.find((row) => row.config === null)?.tokens_per_second;
    byId("tune-rows").replaceChildren(...rows.map((row) => {
      const drafted = row.num_drafts > 0;
      const cells = [
        format.rate(row.tokens_per_second),
        plain ? `${format.fixed(row.tokens_per_second / plain, 2)} ×` : "–",
        format.percent(drafted ? row.acceptance_rate : null),
        format.fixed(drafted ? row.mean_acceptance_length : null, 2),
      ];
      const name = make("th", { scope: "row" }, nameOf(row.config));
      const line = make("tr", {}, name, ...cells.map((text) => make("td", {}, text)));
      line.toggleAttribute("data-best", row.label === recommended);
      return line;
    }));
    byId("advice-text").textContent = `${reason[0]!.toUpperCase()}${reason.slice(1)}.`;
  }

  /** A curve for each setting with drafts: how often each position was accepted. */
  function showCurves(rows: readonly TuneRow[]): void {
    const drafting = rows.filter((row) => row.num_drafts > 0);
    const lines = drafting.map((row, i): Line => ({ label: `K = ${nameOf(row.config)}`, ...LINES[i % LINES.length] }));
    const longest = Math.max(0, ...drafting.map((row) => row.per_position_acceptance_rate.length));
    const at = Array.from({ length: longest }, (_, i) => i);
    curves?.remove();
    curves = lineChart(parent, {
      id: "chart-curves", title: "Acceptance by draft position", value: format.percent, tick: (y) => `${format.fixed(y * 100, 0)} %`,
      place: (x) => (Number.isInteger(x) ? String(x) : ""), top: 1, fixed: true, wide: true,
    }, lines);
    const ys = drafting.map((row) => at.map((i) => row.per_position_acceptance_rate[i] ?? null));
    const spoken = drafting.map((row, i) => `${lines[i]!.label}: ${row.per_position_acceptance_rate.map(format.percent).join(" ")}`);
    curves.update([at, ...ys], "", spoken.join("; ") || "nothing yet");
    legend.replaceChildren(...lines.map(({ label, color }) => {
      const item = make("li", {}, label);
      item.style.setProperty("--series", `var(${color})`);
      return item;
    }));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void tune();
  });
  ks.addEventListener("input", () => ks.setCustomValidity(""));
  stop.addEventListener("click", () => aborter.abort());
  apply.addEventListener("click", () => {
    if (!result) return;
    chooseSpeculation(result.recommendation ? nameOf(result.recommendation) : "off");
    status.textContent = "Applied to the settings above.";
  });
  store.watch(({ llm, busy }) => {
    const run = byId<HTMLButtonElement>("tune-run");
    keepFocus([run, stop], () => {
      // A server's speculation is not ours to change.
      run.disabled = !llm || busy !== null || llm.model.adapter.backend === "server";
      stop.disabled = busy !== "tune";
    });
    apply.disabled = !result || busy !== null;
  });
}

function nameOf(config: SpeculativeConfig | null): string {
  return String(config?.num_speculative_tokens ?? 0);
}
