/** The models that the browser keeps: load or delete one with a click. */
import { modelCache, type CachedModel } from "embergram";
import { showError } from "./alert.js";
import { byId, make } from "./dom.js";
import * as format from "./format.js";

/** A model with all its files that are kept. */
export interface KeptModel {
  /** What `Llm.load` loads it by. */
  model: string;
  name: string;
  files: CachedModel[];
  bytes: number;
  complete: boolean;
  lastUsed: number;
}

/** The models that these files belong to, in the order of the list. */
export function keptModels(list: readonly CachedModel[]): KeptModel[] {
  const models = new Map<string, KeptModel>();
  for (const file of list) {
    const kept = models.get(file.model) ?? { model: file.model, name: nameOf(file.model), files: [], bytes: 0, complete: true, lastUsed: 0 };
    models.set(file.model, kept);
    kept.files.push(file);
    kept.bytes += file.bytes;
    kept.complete &&= file.complete;
    kept.lastUsed = Math.max(kept.lastUsed, file.lastUsed);
  }
  return [...models.values()];
}

/** What people call it: a file's name without the number of a part, a folder's name, on the hub its repository's. */
function nameOf(model: string): string {
  const pieces = new URL(model).pathname.split("/");
  const last = readable(pieces.at(-1)!).replace(/-\d{5}-of-\d{5}(?=\.gguf$)/i, "");
  if (last !== "") return last;
  const [, owner, repo, door] = pieces;
  return door === "resolve" ? `${owner}/${repo}` : readable(pieces.at(-2)!) || model;
}

/** A piece of an address, where it decodes. */
function readable(piece: string): string {
  try {
    return decodeURIComponent(piece);
  } catch {
    return piece;
  }
}

export class KeptList {
  readonly #load: (model: string) => void;
  #busy = false;

  /** @param load loads a model of the list */
  constructor(load: (model: string) => void) {
    this.#load = load;
  }

  /** While something is being done, nothing else can be loaded. */
  set busy(busy: boolean) {
    this.#busy = busy;
    for (const button of byId("cached-list").querySelectorAll<HTMLButtonElement>("[data-load]")) button.disabled = busy;
  }

  /** Reads the cache and shows it. */
  async refresh(): Promise<void> {
    const all = keptModels(await modelCache.list());
    const total = all.reduce((sum, { bytes }) => sum + bytes, 0);
    byId("cached-size").textContent = all.length > 0 ? `${all.length} model${all.length > 1 ? "s" : ""}, ${format.bytes(total)}` : "none";
    byId("cached-list").replaceChildren(...all.map((kept) => this.#row(kept)));
  }

  #row({ model, name, files, bytes, complete, lastUsed }: KeptModel): HTMLElement {
    const load = make("button", { type: "button", ariaLabel: `Load ${name}`, disabled: this.#busy }, "Load");
    load.dataset["load"] = "";
    load.addEventListener("click", () => this.#load(model));
    const remove = make("button", { type: "button", ariaLabel: `Delete ${name}` }, "Delete");
    remove.addEventListener("click", () => {
      const removed = Promise.all(files.map((file) => modelCache.delete(file)));
      void removed.catch(showError).then(() => this.refresh()).catch(showError);
    });
    const size = `${format.bytes(bytes)}${complete ? "" : ", incomplete"}`;
    const about = make("span", { className: "hint numbers" }, size, make("time", { dateTime: new Date(lastUsed).toISOString() }, `used ${format.time(lastUsed)}`));
    return make("li", {}, make("span", { className: "name", title: model }, name), about, load, remove);
  }
}
