import { EmbergramError } from "../error.js";

/** Milliseconds of silence after which a connection counts as broken, where the caller does not say. */
export const SILENCE = 30_000;

/** Throws `aborted` when the caller has aborted. */
export function checkAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new EmbergramError("aborted", "Loading the model was aborted.", { cause: signal.reason });
}

/** Waits; rejects with `aborted` as soon as the caller aborts. */
export async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  checkAborted(signal);
  await new Promise<void>((done) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      done();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
  checkAborted(signal);
}
