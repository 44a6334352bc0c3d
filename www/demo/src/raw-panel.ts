/** The metrics as they are: `getMetrics()` as JSON, `getMetricsText()` for Prometheus. */
import { showError } from "./alert.js";
import { byId, tabs } from "./dom.js";
import type { Monitor } from "./monitor.js";
import type { Store } from "./store.js";

export function setUpRawPanel(store: Store, monitor: Monitor): void {
  const json = byId("panel-json");
  const text = byId("panel-text");
  const copy = byId<HTMLButtonElement>("copy");
  const reset = byId<HTMLButtonElement>("reset");

  monitor.watch((history, llm) => {
    const latest = history.at(-1);
    copy.disabled = !latest;
    json.textContent = latest ? JSON.stringify(latest.metrics, null, 2) : "No model is loaded.";
    if (!llm) text.textContent = "No model is loaded.";
    else if (!text.hidden) void refreshText(llm).catch(showError);
  });

  async function refreshText(llm = store.state.llm): Promise<void> {
    if (llm) text.textContent = await llm.getMetricsText();
  }

  tabs(byId("raw").querySelector("[role=tablist]")!, (tab) => {
    if (tab.id === "tab-text") void refreshText().catch(showError);
  });
  copy.addEventListener("click", () => {
    const shown = json.hidden ? text : json;
    const copied = navigator.clipboard.writeText(shown.textContent ?? "");
    copied.then(() => say("Copied"), () => {
      // Without permission to write: select it, so that the keyboard's copy does it.
      getSelection()?.selectAllChildren(shown);
      say("Selected");
    });
  });
  let timer = 0;
  function say(word: string): void {
    copy.textContent = word;
    clearTimeout(timer);
    timer = window.setTimeout(() => (copy.textContent = "Copy"), 1500);
  }

  reset.addEventListener("click", () => {
    const { llm } = store.state;
    void llm?.resetMetrics().then(() => monitor.restart(llm)).catch(showError);
  });
  store.watch(({ llm, busy }) => {
    // A server's counters are not ours.
    reset.disabled = !llm || busy !== null || llm.model.adapter.backend === "server";
  });
}
