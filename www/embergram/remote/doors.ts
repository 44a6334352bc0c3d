/** A server's own doors: what goes in is handed on, and so is what comes out. */
import type { CallOptions } from "../llm.js";
import type { ChatCompletions, Completions } from "../openai/types.js";
import type { Server } from "./server.js";

/** `fetch` with the server's address in place of any, and its key. */
export function remoteFetch(server: Server): typeof fetch {
  return async (input, init) => {
    const base = globalThis.location?.href;
    const request = input instanceof Request ? new Request(input, init) : new Request(new URL(input, base?.startsWith("http") ? base : "http://localhost"), init);
    const { pathname, search } = new URL(request.url);
    const body = request.body === null ? {} : { body: await request.arrayBuffer() };
    const headers = new Headers(request.headers);
    // A client's own key is none of this server's.
    headers.delete("authorization");
    return server.request(pathname + search, { method: request.method, headers, signal: request.signal, ...body });
  };
}

/** `create` of either door. */
export function remoteDoors(server: Server, model: string): { chat: ChatCompletions; completions: Completions } {
  const door = (path: string) => ({
    async create(body: { stream?: boolean | null | undefined }, { signal }: CallOptions = {}) {
      const whole = { model, ...body };
      if (!body.stream) return server.json(path, whole, signal);
      const controller = new AbortController();
      const either = signal ? AbortSignal.any([signal, controller.signal]) : controller.signal;
      return Object.assign(chunks(await server.events(path, whole, either), controller), { controller });
    },
  });
  return { chat: door("/v1/chat/completions") as ChatCompletions, completions: door("/v1/completions") as Completions };
}

async function* chunks<T>(events: AsyncGenerator<T, void>, { signal }: AbortController): AsyncGenerator<T, void> {
  try {
    yield* events;
  } catch (error) {
    // As with OpenAI's client, one's own abort ends the loop and is no error.
    if (!signal.aborted) throw error;
  }
}
