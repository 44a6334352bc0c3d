/** A caller's own `fetch` for an engine in a worker: neither functions nor responses nor signals cross by themselves. */
import { transfer } from "comlink";

/** What crosses in their place. */
export interface FetchPort {
  /** Calls the caller's fetch; `id` names the answer. */
  ask(id: number, url: string, init: RequestInit): Promise<Answer>;
  /** The next bytes of the answer's body; `undefined` at its end. */
  read(id: number): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Ends it. */
  stop(id: number): Promise<void>;
}

interface Answer {
  status: number;
  statusText: string;
  headers: [string, string][];
  hasBody: boolean;
}

/** The caller's side. */
export function offerFetch(own: typeof fetch): FetchPort {
  const open = new Map<number, { stop: AbortController; body?: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> }>();
  return {
    async ask(id, url, init) {
      const stop = new AbortController();
      open.set(id, { stop });
      const { status, statusText, headers, body } = await own(url, { ...init, signal: stop.signal });
      if (body) open.set(id, { stop, body: body.getReader() });
      return { status, statusText, headers: [...headers], hasBody: body !== null };
    },
    async read(id) {
      const { done, value } = (await open.get(id)?.body?.read()) ?? { done: true };
      if (done || !value) return void open.delete(id);
      // What is part of a larger buffer is not ours to give away.
      const whole = value.byteLength === value.buffer.byteLength ? value : value.slice();
      return transfer(whole, [whole.buffer]);
    },
    async stop(id) {
      open.get(id)?.stop.abort();
      open.delete(id);
    },
  };
}

/** The engine's side: a `fetch` again. */
export function fetchThrough(port: FetchPort): typeof fetch {
  let last = 0;
  return async (url, { method, headers, cache, signal } = {}) => {
    signal?.throwIfAborted();
    const id = ++last;
    const stop = () => void port.stop(id);
    signal?.addEventListener("abort", stop, { once: true });
    const init = { method: method ?? "GET", headers: Object.fromEntries(new Headers(headers)), cache: cache ?? "default" };
    const { hasBody, ...answer } = await port.ask(id, String(url), init);
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      pull: async (controller) => {
        const bytes = await port.read(id);
        if (bytes) controller.enqueue(bytes);
        else controller.close();
      },
      cancel: stop,
    });
    return new Response(hasBody ? body : null, answer);
  };
}
