import type { Llm } from "embergram";

/** What the page's parts share. */
export interface State {
  /** The loaded model. */
  llm: Llm | null;
  /** What keeps the model busy; one thing at a time. */
  busy: "load" | "generate" | "tune" | null;
}

type Listener = (state: State) => void;

/** The state, and who wants to know of its changes. */
export class Store {
  #state: State = { llm: null, busy: null };
  #listeners: Listener[] = [];

  get state(): State {
    return this.#state;
  }

  set(change: Partial<State>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener(this.#state);
  }

  /** Calls now and after every change. */
  watch(listener: Listener): void {
    this.#listeners.push(listener);
    listener(this.#state);
  }
}
