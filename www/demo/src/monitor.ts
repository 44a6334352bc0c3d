/** Reads `getMetrics()`: twice a second while the model works, and whenever asked. */
import type { Llm, Metric } from "embergram";
import { read, type Reading } from "./reading.js";

const INTERVAL = 500;
const SERVER_INTERVAL = 2000;

/** Metrics at one moment. `at`: seconds of work seen so far, idle time left out. */
export interface Sample {
  at: number;
  metrics: readonly Metric[];
  reading: Reading;
}

type Listener = (history: readonly Sample[], llm: Llm | null) => void;

export class Monitor {
  #llm: Llm | null = null;
  #history: Sample[] = [];
  #listeners: Listener[] = [];
  #worked = 0;
  #timer = 0;
  #working = false;

  /** The last reading. */
  get latest(): Sample | undefined {
    return this.#history.at(-1);
  }

  /** Calls now and after every reading. */
  watch(listener: Listener): void {
    this.#listeners.push(listener);
    listener(this.#history, this.#llm);
  }

  /** Begins anew, with another model or with counters that were reset. A server works for others too: it is read all the time. */
  async restart(llm: Llm | null): Promise<void> {
    this.#llm = llm;
    this.#history = [];
    this.#worked = 0;
    clearInterval(this.#timer);
    if (!llm) return this.#tell();
    const begin = performance.now();
    if (llm.model.adapter.backend === "server") {
      this.#timer = window.setInterval(() => {
        if (this.#working || document.hidden) return;
        this.#worked = (performance.now() - begin) / 1000;
        // What fails now fails again with the next answer, and is told there.
        void this.#read(llm).catch(() => {});
      }, SERVER_INTERVAL);
    }
    await this.#read(llm);
  }

  /** Reads until the work is done, and once more then, however it ends. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    const llm = this.#llm;
    if (!llm) return work();
    this.#working = true;
    const begin = performance.now();
    const before = this.#worked;
    const step = async () => {
      this.#worked = before + (performance.now() - begin) / 1000;
      await this.#read(llm);
    };
    const reading = (async () => {
      while (this.#working) {
        await step();
        await new Promise((resolve) => setTimeout(resolve, INTERVAL));
      }
    })();
    try {
      return await work();
    } finally {
      this.#working = false;
      // An engine that failed has no metrics to give; the work's own error says so.
      await reading.then(step).catch(() => {});
    }
  }

  async #read(llm: Llm): Promise<void> {
    const metrics = await llm.getMetrics();
    if (llm !== this.#llm) return;
    this.#history.push({ at: this.#worked, metrics, reading: read(metrics) });
    if (this.#history.length > 2400) this.#history.splice(1, 1200);
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener(this.#history, this.#llm);
  }
}
