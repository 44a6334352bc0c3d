/** Choosing, loading and unloading a model; what it runs on; what the browser keeps. */
import { Llm, type LoadProgress, type ModelInput, type ModelInfo, type Support } from "embergram";
import { hideError, showError } from "./alert.js";
import { adapterLabel, label, notice, taken, type Wanted } from "./backend.js";
import { byId, keepFocus, make, speak, valid } from "./dom.js";
import { droppedFiles } from "./dropped.js";
import * as format from "./format.js";
import { KeptList } from "./kept-list.js";
import type { Monitor } from "./monitor.js";
import type { Store } from "./store.js";

/** A model beside the page, as `models.json` lists it. */
interface ServedModel {
  name: string;
  /** Relative to the page. */
  url: string;
  bytes?: number;
}

/** Where a model comes from; `remote` is a server that answers in its place. */
type Source = "server" | "address" | "file" | "remote";

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
  let support: Support | undefined;
  const keptList = new KeptList((model) => {
    address.value = model;
    choose("address");
    void load();
  });

  const source = () => new FormData(form).get("source");
  const wanted = (): Wanted => {
    const data = new FormData(form);
    return { backend: data.get("backend") as Wanted["backend"], threads: Number(data.get("threads")) || undefined };
  };
  // Until it is known, a load finds out.
  const supported = () => source() === "remote" || !support || taken(wanted(), support) !== null;

  function choose(chosen: Source): void {
    form.querySelector<HTMLInputElement>(`[name=source][value=${chosen}]`)!.checked = true;
    for (const part of form.querySelectorAll<HTMLElement>("div[data-source]")) part.hidden = part.dataset["source"] !== chosen;
  }

  function chooseFiles(list: Iterable<File>): void {
    const chosen = [...list];
    if (chosen.length === 0) return;
    files = chosen;
    const total = files.reduce((sum, file) => sum + file.size, 0);
    const named = files.length > 1 ? `${files.length} files` : files[0]!.name;
    byId("file-name").textContent = `${named}, ${format.bytes(total)}`;
    choose("file");
  }

  function missing(input: HTMLInputElement, why: string): null {
    input.setCustomValidity(why);
    input.reportValidity();
    input.addEventListener("input", () => input.setCustomValidity(""), { once: true });
    return null;
  }

  /** The address of the server; `null` after having said that it is missing. */
  function chosenServer(): string | null {
    const remote = byId<HTMLInputElement>("remote");
    return remote.value.trim() || missing(remote, "Give the address of a vLLM server, or of embergram serve.");
  }

  /** The chosen model; `null` after having said what is missing. */
  function chosenModel(): ModelInput | null {
    if (source() === "server") return served.value;
    if (source() === "address") return address.value.trim() || missing(address, "Give the address of a GGUF file, hf:owner/repo, or hf:owner/repo:Q4_K_M.");
    if (files.length === 0) return missing(byId<HTMLInputElement>("file"), "Choose a GGUF file or a folder.");
    return files.length > 1 ? files : files[0]!;
  }

  async function load(): Promise<void> {
    const remote = source() === "remote";
    const model = remote ? chosenServer() : chosenModel();
    if (model === null || !valid(form)) return;
    hideError();
    const data = new FormData(form);
    const number = (name: string) => (data.get(name) ? { [name]: Number(data.get(name)) } : {});
    const open = () => remote ? Llm.connect(model as string, { apiKey: byId<HTMLInputElement>("remote-key").value, signal: stop.signal }) : Llm.load({
      model, ...wanted(), ...number("max_model_len"), ...number("max_num_seqs"), cache: data.has("cache"),
      quantization: (data.get("quantization") || null) as "q8_0" | "q4_0" | null,
      recover: true, onProgress: show, signal: stop.signal,
    });
    stop = new AbortController();
    const before = store.state.llm;
    store.set({ busy: "load", llm: null });
    bar.value = 0;
    status.textContent = "Starting…";
    try {
      // Two models at once may not fit; one whose engine failed cannot be unloaded, nor need it be.
      await before?.unload().catch(() => {});
      const begin = performance.now();
      const llm = await open();
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
      await keptList.refresh();
    }
  }

  function show({ phase, loaded, total, rate }: LoadProgress): void {
    const known = total !== undefined && total > 0;
    if (phase === "gpu") status.textContent = "Opening the backend…";
    else if (phase === "build") status.textContent = "Building tokenizer and kernels…";
    else {
      const from = { download: "Downloading", cache: "From this browser", file: "From the file", ready: "Ready" }[phase];
      const left = known && rate ? `, ${format.seconds((total - loaded) / rate)} left` : "";
      const amount = known ? `${format.bytes(loaded)} of ${format.bytes(total)}` : format.bytes(loaded);
      status.textContent = `${from}: ${amount}${rate ? `, ${format.bytes(rate)}/s` : ""}${left}`;
    }
    if (known) bar.value = loaded / total;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void load();
  });
  form.addEventListener("change", () => {
    choose(source() as Source);
    showBackend();
  });
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
  const folder = byId<HTMLInputElement>("folder");
  for (const each of [input, folder]) each.addEventListener("change", () => chooseFiles(each.files ?? []));
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
    void droppedFiles(event.dataTransfer).then(chooseFiles).catch(showError);
  });

  /** What the next load would run on, or what the loaded model does. */
  function showBackend(): void {
    const { llm, busy } = store.state;
    button.disabled = keptList.busy = busy !== null || !supported();
    if (!support) return;
    const remote = source() === "remote";
    const said = remote ? null : notice(wanted(), support);
    byId("adapter").textContent = llm ? adapterLabel(llm.model.adapter) : remote ? "a server" : label(wanted(), support);
    byId("notice").hidden = !said;
    byId("notice").replaceChildren(...(said ? [make("strong", {}, said.title), ` ${said.text}`] : []));
  }

  store.watch(({ llm, busy }) => {
    keepFocus([button, cancel, unload], () => {
      button.disabled = busy !== null || !supported();
      button.hidden = busy === "load";
      button.textContent = llm ? "Load another" : "Load";
      cancel.hidden = busy !== "load";
      unload.hidden = !llm;
      unload.disabled = busy !== null;
    });
    showBackend();
    showFacts(llm?.model);
  });
  monitor.watch((history) => {
    const reading = history.at(-1)?.reading;
    byId("fact-gpu").textContent = format.bytes(reading?.gpuMemoryBytes);
    byId("fact-heap").textContent = format.bytes(reading?.wasmHeapBytes);
    byId("fact-kv").textContent = format.percent(reading?.kvCacheUsage);
  });

  void keptList.refresh().catch(showError);
  void servedModels().then((models) => {
    served.replaceChildren(...models.map(({ name, url, bytes }) => new Option(bytes ? `${name}, ${format.bytes(bytes)}` : name, url)));
    if (models.length > 0) return;
    form.querySelector<HTMLInputElement>("[value=server]")!.disabled = true;
    choose("address");
  });
  preset(form);
  void Llm.supported().then((found) => {
    support = found;
    showBackend();
  });
}

/** Takes backend and threads out of the page's address: `?backend=cpu&threads=1`. */
function preset(form: HTMLFormElement): void {
  const query = new URLSearchParams(location.search);
  const backend = form.elements.namedItem("backend") as HTMLSelectElement;
  const named = [...backend.options].find(({ value }) => value === query.get("backend"));
  if (named) named.selected = true;
  (form.elements.namedItem("threads") as HTMLInputElement).value = query.get("threads") ?? "";
}

function showFacts(model: ModelInfo | undefined): void {
  byId("fact-name").textContent = model?.name ?? "–";
  byId("fact-name").title = model?.name ?? "";
  const tokens = (count: number | undefined) => (Number.isFinite(count) ? `${format.count(count)} tokens` : "–");
  byId("fact-context").textContent = tokens(model?.max_model_len);
  byId("fact-vocabulary").textContent = tokens(model?.vocab_size);
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
