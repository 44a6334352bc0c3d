/** A server of OpenAI's API: requests to it, and what is wrong where they fail. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import { EmbergramError } from "../error.js";

/** Options of {@link Llm.connect}. */
export interface ServerOptions {
  /** Which of the server's models; default the first that it lists. */
  model?: string;
  /** What the server asks for as a bearer token. */
  apiKey?: string;
  /** Further headers of each request. */
  headers?: Readonly<Record<string, string>>;
  /** In place of the global fetch. */
  fetch?: typeof fetch;
  /** Ends the connecting. */
  signal?: AbortSignal;
}

/** A server's error, by what it answered. */
function refusal(at: string, status: number, body: unknown): EmbergramError {
  const { message = typeof body === "string" ? body : JSON.stringify(body), param, type } = Object(Object(body).error ?? body) as { message?: string; param?: unknown; type?: unknown };
  const said = `${at} answered ${status}: ${message.slice(0, 500)}`;
  if (status === 401 || status === 403) return new EmbergramError("unauthorized", `${said}; give a valid apiKey`);
  if (status === 404 && (type === "NotFoundError" || param === "model" || /model/i.test(message))) return new EmbergramError("unknown_model", said);
  if (status === 429 || status === 503) return new EmbergramError("queue_full", said);
  if (status === 400 && (param === "input_tokens" || param === "input_text")) return new EmbergramError("prompt_too_long", said);
  if (status === 400 || status === 422) return new EmbergramError("invalid_params", said);
  return new EmbergramError("http", said);
}

export class Server {
  /** Without a trailing slash, and without `/v1`. */
  readonly address: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #fetch: typeof fetch;

  constructor(address: string | URL, { apiKey, headers, fetch: own }: ServerOptions) {
    try {
      this.address = new URL(address, globalThis.location?.href).href.replace(/\/+$/, "").replace(/\/v1$/, "");
    } catch (cause) {
      throw new EmbergramError("invalid_config", `"${address}" is no address of a server; give one such as http://localhost:8000`, { cause });
    }
    this.#headers = { ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }), ...headers };
    this.#fetch = own ?? ((input, init) => fetch(input, init));
  }

  /** A request as it is: the server's own answer, whatever it is. */
  async request(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    for (const [name, value] of Object.entries(this.#headers)) headers.set(name, value);
    return this.#fetch(this.address + path, { ...init, headers });
  }

  /** An answer of status 200. */
  async answer(path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
    const post = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    let response: Response;
    try {
      response = await this.request(path, { ...post, ...(signal && { signal }) });
    } catch (error) {
      if (signal?.aborted) throw new EmbergramError("aborted", "the call was aborted", { cause: error });
      throw await this.#unreachable(path, error);
    }
    if (response.ok) return response;
    const text = await response.text();
    throw refusal(`${this.address}${path}`, response.status, parsed(text));
  }

  /** The events of a streamed answer, as JSON, once it has begun. */
  async events<T extends object>(path: string, body: object, signal: AbortSignal): Promise<AsyncGenerator<T, void>> {
    const response = await this.answer(path, body, signal);
    return eventsOf(this.address + path, response, signal);
  }

  /** The same as JSON. */
  async json<T>(path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const response = await this.answer(path, body, signal);
    const text = await response.text();
    const value = parsed(text);
    if (typeof value === "string") throw new EmbergramError("http", `${this.address}${path} answered no JSON, so that it is no server of OpenAI's API: ${text.slice(0, 80)}`);
    return value as T;
  }

  /** Why a request did not arrive: a page is not told, but may ask whether anything answers there at all. */
  async #unreachable(path: string, cause: unknown): Promise<EmbergramError> {
    const at = this.address + path;
    const { location } = globalThis;
    const foreign = location?.origin !== undefined && location.origin !== "null" && new URL(at).origin !== location.origin;
    if (foreign) {
      if (location.protocol === "https:" && new URL(at).protocol === "http:" && !/^(?:localhost|127\.|\[::1\])/.test(new URL(at).host)) {
        return new EmbergramError("network", `${at}: a page from https cannot reach a server by http; give the server a certificate, or a proxy with one`, { cause });
      }
      const answers = await this.#fetch(at, { mode: "no-cors" }).then(() => true, () => false);
      if (answers) {
        const advice = `it must send Access-Control-Allow-Origin: ${location.origin} (vLLM and embergram serve: --allowed-origins)`;
        return new EmbergramError("cors", `${at} answers, but not to pages of ${location.origin}: ${advice}`, { cause });
      }
    }
    // An isolated page is not even told that something answers.
    const unsure = foreign && globalThis.crossOriginIsolated ? `, and does it send Access-Control-Allow-Origin: ${location.origin}` : "";
    const why = String((Object((cause as Error).cause) as Error).message ?? (cause as Error).message);
    return new EmbergramError("network", `${at} cannot be reached (${why}); is the address right, does the server run${unsure}?`, { cause });
  }
}

async function* eventsOf<T extends object>(at: string, response: Response, signal: AbortSignal): AsyncGenerator<T, void> {
  const text = response.body!.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array<ArrayBuffer>, string>);
  const reader = text.pipeThrough(new EventSourceParserStream()).getReader();
  try {
    for (let read = await reader.read(); !read.done && read.value.data !== "[DONE]"; read = await reader.read()) {
      const chunk = JSON.parse(read.value.data) as T | { error: { code?: unknown } };
      if ("error" in chunk && chunk.error) throw refusal(at, typeof chunk.error.code === "number" ? chunk.error.code : 500, chunk);
      yield chunk as T;
    }
  } catch (error) {
    if (signal.aborted) throw new EmbergramError("aborted", "the call was aborted", { cause: error });
    if (error instanceof EmbergramError) throw error;
    throw new EmbergramError("network", `the answer of ${at} broke off: ${(error as Error).message}`, { cause: error });
  } finally {
    void reader.cancel().catch(() => {});
  }
}

/** JSON, or the text where it is none. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
