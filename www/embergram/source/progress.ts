/** Where the bytes of a model come from while it loads. */
export type ProgressPhase = "download" | "cache" | "file";

/** How far loading is. */
export interface Progress {
  phase: ProgressPhase;
  /** Bytes given to the engine, over all parts, wherever they came from. */
  loaded: number;
  /** Bytes in all parts, once known. */
  total?: number;
  /** Bytes a second, over the last few seconds. */
  rate: number;
  /** Whether these bytes lie in the cache afterwards: false says that the next load needs the network again. */
  cached: boolean;
}

const EVERY = 50;
const WINDOW = 3000;

/** Adds up the bytes of all parts and reports them, at most every 50 ms and once at the end of each part. */
export class ProgressMeter {
  private readonly loaded: number[];
  private readonly sizes: (number | undefined)[];
  private readonly samples: { time: number; loaded: number }[] = [];
  private reported = -Infinity;

  constructor(parts: number, private readonly report: ((progress: Progress) => void) | undefined) {
    this.loaded = new Array<number>(parts).fill(0);
    this.sizes = new Array<undefined>(parts).fill(undefined);
  }

  setSize(part: number, size: number | undefined): void {
    if (size !== undefined) this.sizes[part] = size;
  }

  /** This part has `loaded` bytes now. */
  set(part: number, loaded: number, phase: ProgressPhase, cached: boolean): void {
    if (loaded < (this.loaded[part] ?? 0)) this.samples.length = 0;
    this.loaded[part] = loaded;
    const time = performance.now();
    const all = this.loaded.reduce((a, b) => a + b, 0);
    const done = loaded === this.sizes[part];
    if (!done && time - this.reported < EVERY) return;
    this.reported = time;
    this.samples.push({ time, loaded: all });
    while ((this.samples[0]?.time ?? time) < time - WINDOW) this.samples.shift();
    const first = this.samples[0] ?? { time, loaded: all };
    const progress: Progress = { phase, loaded: all, rate: time > first.time ? ((all - first.loaded) * 1000) / (time - first.time) : 0, cached };
    if (this.sizes.every((size) => size !== undefined)) progress.total = this.sizes.reduce<number>((a, b) => a + (b ?? 0), 0);
    this.report?.(progress);
  }
}
