/** Choosing, loading and unloading a model; the adapter; what the browser keeps. */
import { Llm, modelCache, type LoadProgress, type ModelInput, type ModelInfo } from "embergram";
import { hideError, showError } from "./alert.js";
import { byId, keepFocus, make, speak, valid } from "./dom.js";
import * as format from "./format.js";
import type { Monitor } from "./monitor.js";
import type { Store } from "./store.js";

/** A model beside the page, as `models.json` lists it. */
interface ServedModel {
  name: string;
  /** Relative to the page. */
  url: string;
  bytes?: number;
}

export function setUpModelPanel(store: Store, monitor: Monitor): void {
  const form = byId<HTMLFormElement>("load");
  const address = byId<HTMLInputElement>("address");
  const served = byId<HTMLSelectElement>("server-models");
  const button = byId<HTMLButtonElement>("load-button");
  const cancel = byId<HTMLButtonElement>("cancel-load");
  const unload = byId<HTMLButtonElement>("unload");
  const bar = byId<HTMLProgressElement>("load-progress");
  const status = byId("load-status");
  let files: readonly File[] = [];
  let stop = new AbortController();
  let supported = true;

  const source = () => new FormData(form).get("source");

  function choose(chosen: "server" | "address" | "file"): void {
    form.querySelector<HTMLInputElement>(`[name=source][value=${chosen}]`)!.checked = true;
    for (const part of form.querySelectorAll<HTMLElement>("div[data-source]")) part.hidden = part.dataset["source"] !== chosen;
  }

  function chooseFiles(list: FileList | null | undefined): void {
    if (!list?.length) return;
    files = [...list];
    const total = files.reduce((sum, file) => sum + file.size, 0);
    const named = files.length > 1 ? `${files.length} files` : files[0]!.name;
    byId("file-name").textContent = `${named}, ${format.bytes(total)}`;
    choose("file");
  }

  /** The chosen model; `null` after having said what is missing. */
  function chosenModel(): ModelInput | null {
    const missing = (input: HTMLInputElement, why: string) => {
      input.setCustomValidity(why);
      input.reportValidity();
      input.addEventListener("input", () => input.setCustomValidity(""), { once: true });
      return null;
    };
    if (source() === "server") return served.value;
    if (source() === "address") return address.value.trim() || missing(address, "Give the address of a GGUF file, or hf:owner/repo:Q4_K_M.");
    if (files.length === 0) return missing(byId<HTMLInputElement>("file"), "Choose a GGUF file.");
    return files.length > 1 ? files : files[0]!;
  }

  async function load(): Promise<void> {
    const model = chosenModel();
    if (model === null || !valid(form)) return;
    hideError();
    const data = new FormData(form);
    const number = (name: string) => (data.get(name) ? { [name]: Number(data.get(name)) } : {});
    stop = new AbortController();
    const before = store.state.llm;
    store.set({ busy: "load", llm: null });
    bar.value = 0;
    status.textContent = "Starting…";
    try {
      // Two models at once may not fit; one whose engine failed cannot be unloaded, nor need it be.
      await before?.unload().catch(() => {});
      const begin = performance.now();
      const llm = await Llm.load({
        model, ...number("max_model_len"), ...number("max_num_seqs"), cache: data.has("cache"),
        onProgress: show, signal: stop.signal,
      });
      bar.value = 1;
      status.textContent = `Ready after ${format.seconds((performance.now() - begin) / 1000)}.`;
      await monitor.restart(llm);
      store.set({ llm });
      speak(`${llm.model.name} is ready.`);
    } catch (error) {
      bar.value = 0;
      status.textContent = stop.signal.aborted ? "Cancelled." : "The model did not load.";
      await monitor.restart(null);
      showError(error);
    } finally {
      store.set({ busy: null });
      await listCached();
    }
  }

  function show({ phase, loaded, total, rate }: LoadProgress): void {
    const known = total !== undefined && total > 0;
    if (phase === "gpu") status.textContent = "Opening the GPU…";
    else if (phase === "build") status.textContent = "Building tokenizer and pipelines…";
    else {
      const from = { download: "Downloading", cache: "From this browser", file: "From the file", ready: "Ready" }[phase];
      const left = known && rate ? `, ${format.seconds((total - loaded) / rate)} left` : "";
      const amount = known ? `${format.bytes(loaded)} of ${format.bytes(total)}` : format.bytes(loaded);
      status.textContent = `${from}: ${amount}${rate ? `, ${format.bytes(rate)}/s` : ""}${left}`;
    }
    if (known) bar.value = loaded / total;
  }

  async function listCached(): Promise<void> {
    const all = await modelCache.list();
    const total = all.reduce((sum, { bytes }) => sum + bytes, 0);
    byId("cached-size").textContent = all.length > 0 ? `${all.length} file${all.length > 1 ? "s" : ""}, ${format.bytes(total)}` : "none";
    byId("cached-list").replaceChildren(...all.map((cached) => {
      const { url, bytes, complete } = cached;
      const name = fileName(url);
      const use = make("button", { type: "button", ariaLabel: `Use ${name}` }, "Use");
      use.addEventListener("click", () => {
        address.value = url;
        choose("address");
        address.focus();
      });
      const remove = make("button", { type: "button", ariaLabel: `Delete ${name}` }, "Delete");
      remove.addEventListener("click", () => void modelCache.delete(cached).catch(showError).then(listCached));
      const size = `${format.bytes(bytes)}${complete ? "" : ", incomplete"}`;
      return make("li", {}, make("span", { className: "name", title: url }, name), make("span", { className: "hint numbers" }, size), use, remove);
    }));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void load();
  });
  form.addEventListener("change", () => choose(source() as "server" | "address" | "file"));
  cancel.addEventListener("click", () => stop.abort());
  unload.addEventListener("click", () => {
    const { llm } = store.state;
    store.set({ llm: null });
    status.textContent = "No model is loaded.";
    bar.value = 0;
    void llm?.unload().catch(showError);
    void monitor.restart(null);
  });
  const input = byId<HTMLInputElement>("file");
  input.addEventListener("change", () => chooseFiles(input.files));
  const dragging = (is: boolean) => document.body.toggleAttribute("data-dragging", is);
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    dragging(true);
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) dragging(false);
  });
  addEventListener("drop", (event) => {
    dragging(false);
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    chooseFiles(event.dataTransfer.files);
  });

  store.watch(({ llm, busy }) => {
    keepFocus([button, cancel, unload], () => {
      button.disabled = busy !== null || !supported;
      button.hidden = busy === "load";
      button.textContent = llm ? "Load another" : "Load";
      cancel.hidden = busy !== "load";
      unload.hidden = !llm;
      unload.disabled = busy !== null;
    });
    showFacts(llm?.model);
  });
  monitor.watch((history) => {
    const reading = history.at(-1)?.reading;
    byId("fact-gpu").textContent = format.bytes(reading?.gpuMemoryBytes);
    byId("fact-heap").textContent = format.bytes(reading?.wasmHeapBytes);
    byId("fact-kv").textContent = format.percent(reading?.kvCacheUsage);
  });

  void listCached().catch(showError);
  void servedModels().then((models) => {
    served.replaceChildren(...models.map(({ name, url, bytes }) => new Option(bytes ? `${name}, ${format.bytes(bytes)}` : name, url)));
    if (models.length > 0) return;
    form.querySelector<HTMLInputElement>("[value=server]")!.disabled = true;
    choose("address");
  });
  void Llm.supported().then(({ webgpu, reason, adapter }) => {
    supported = webgpu;
    byId("adapter").textContent = adapter ? `${adapter.name}${adapter.software ? " (software)" : ""}` : "no WebGPU";
    byId("software").hidden = !adapter?.software;
    byId("unsupported").hidden = webgpu;
    byId("unsupported").textContent = reason ? `Models cannot run here: ${reason}.` : "";
    button.disabled = !webgpu || store.state.busy !== null;
  });
}

function showFacts(model: ModelInfo | undefined): void {
  byId("fact-name").textContent = model?.name ?? "–";
  byId("fact-name").title = model?.name ?? "";
  byId("fact-context").textContent = model ? `${format.count(model.max_model_len)} tokens` : "–";
  byId("fact-vocabulary").textContent = model ? `${format.count(model.vocab_size)} tokens` : "–";
}

/** What `models.json` beside the page lists; nothing where there is none. */
async function servedModels(): Promise<ServedModel[]> {
  try {
    const response = await fetch(new URL("models.json", location.href));
    return response.ok ? ((await response.json()) as ServedModel[]) : [];
  } catch {
    return [];
  }
}

/** The last piece of an address, readable where it decodes. */
function fileName(url: string): string {
  const piece = new URL(url).pathname.split("/").at(-1)!;
  try {
    return decodeURIComponent(piece);
  } catch {
    return piece;
  }
}
