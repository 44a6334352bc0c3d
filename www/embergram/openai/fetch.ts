/** `llm.fetch`: a function of fetch's shape that answers as vLLM's OpenAI server does. */
import type { CallOptions } from "../llm.js";
import { VERSION } from "../version.js";
import { chat, chatChunks, complete, completionChunks, type Backend } from "./answers.js";
import { embeddings, type Embedder } from "./embeddings.js";
import { asApiError, invalid } from "./errors.js";
import { newHead } from "./index.js";
import { jsonError } from "./python.js";
import { chatWork, checkModel, readRequest } from "./request.js";
import { bool, int, list, notJson, notJsonType, nullable, object, readBody, text } from "./schema.js";

/** What the server tells beside its answers. */
export interface ServerBackend extends Backend, Embedder {
  /** The metrics as Prometheus text. */
  metricsText(): Promise<string>;
}

type Body = Record<string, unknown>;
type Route = (backend: ServerBackend, request: Request, options: CallOptions) => Promise<Response>;

const ROUTES: Readonly<Record<string, { method: "GET" | "POST"; answer: Route }>> = {
  "/health": { method: "GET", answer: async () => new Response(null) },
  "/ping": { method: "GET", answer: async () => new Response(null) },
  "/version": { method: "GET", answer: async () => json({ version: VERSION }) },
  "/v1/models": { method: "GET", answer: async (backend) => json(modelsOf(backend)) },
  "/metrics": {
    method: "GET",
    answer: async (backend) => new Response(await backend.metricsText(), { headers: { "content-type": "text/plain; version=1.0.0; charset=utf-8" } }),
  },
  "/tokenize": { method: "POST", answer: tokenize },
  "/detokenize": { method: "POST", answer: detokenize },
  "/v1/chat/completions": { method: "POST", answer: chatCompletions },
  "/v1/completions": { method: "POST", answer: completions },
  "/v1/embeddings": { method: "POST", answer: async (backend, request, options) => json(await embeddings(backend, await bodyOf(request), options)) },
};

/** A fetch that a model answers. */
export function serverFetch(backend: ServerBackend): typeof fetch {
  return async (input, init) => {
    const request = asRequest(input, init);
    const { signal } = request;
    signal.throwIfAborted();
    const gone = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    gone.catch(() => {});
    // Like fetch, it rejects at once with the signal's own reason.
    return Promise.race([answer(backend, request), gone]);
  };
}

/** Addresses need no origin: there is no server. */
function asRequest(input: RequestInfo | URL, init: RequestInit | undefined): Request {
  if (input instanceof Request) return new Request(input, init);
  const base = globalThis.location?.href;
  return new Request(new URL(input, base?.startsWith("http") ? base : "http://localhost"), init);
}

async function answer(backend: ServerBackend, request: Request): Promise<Response> {
  const path = new URL(request.url).pathname;
  const route = Object.hasOwn(ROUTES, path) ? ROUTES[path] : undefined;
  if (!route) return json({ detail: "Not Found" }, 404);
  if (request.method !== route.method) return json({ detail: "Method Not Allowed" }, 405, { allow: route.method });
  try {
    return await route.answer(backend, request, { signal: request.signal });
  } catch (error) {
    const failure = asApiError(error);
    return json(failure.body, failure.status);
  }
}

async function chatCompletions(backend: ServerBackend, request: Request, options: CallOptions): Promise<Response> {
  const read = await readRequest(backend, "chat", await bodyOf(request), "client");
  const head = newHead("chatcmpl", { ...read, id: request.headers.get("x-request-id") ?? read.id }, backend);
  if (!read.stream) return json(await chat(backend, read, head, options));
  return events(options, (own) => chatChunks(backend, read, head, own));
}

async function completions(backend: ServerBackend, request: Request, options: CallOptions): Promise<Response> {
  const read = await readRequest(backend, "completion", await bodyOf(request), "client");
  const head = newHead("cmpl", { ...read, id: request.headers.get("x-request-id") ?? read.id }, backend);
  if (!read.stream) return json(await complete(backend, read, head, options));
  return events(options, (own) => completionChunks(backend, read, head, own));
}

async function tokenize(backend: ServerBackend, request: Request): Promise<Response> {
  const shared = { model: nullable(text), add_special_tokens: bool, return_token_strs: nullable(bool) };
  const chat = {
    ...shared, messages: list(object), add_generation_prompt: bool, continue_final_message: bool, tools: nullable(list(object)),
    chat_template_kwargs: nullable(object),
  };
  const body = readBody(
    await bodyOf(request), { fields: { ...shared, prompt: text }, required: ["prompt"] }, { fields: chat, required: ["messages"] },
  );
  const isChat = body["prompt"] === undefined;
  checkModel(backend, body["model"] as string | null | undefined);
  if (body["return_token_strs"]) throw invalid("return_token_strs is not supported: the vocabulary's own spelling is not kept.", "return_token_strs");
  const special = await backend.tokenize("");
  let [tokens] = isChat
    ? await backend.promptTokens(chatWork(body, { template: { tools: body["tools"] as object[] | null | undefined ?? null } }))
    : [await backend.tokenize(body["prompt"] as string)];
  if (isChat && body["add_special_tokens"]) tokens = [...special, ...tokens!];
  if (!isChat && body["add_special_tokens"] === false && special.every((id, i) => tokens![i] === id)) tokens = tokens!.slice(special.length);
  return json({ count: tokens!.length, max_model_len: backend.maxModelLen, tokens, token_strs: null });
}

async function detokenize(backend: ServerBackend, request: Request): Promise<Response> {
  const body = readBody(await bodyOf(request), { fields: { model: nullable(text), tokens: list(int(0)) }, required: ["tokens"] });
  checkModel(backend, body["model"] as string | null | undefined);
  return json({ prompt: await backend.detokenize(body["tokens"] as number[]) });
}

function modelsOf({ name, maxModelLen }: ServerBackend): Body {
  const created = now();
  const permission = {
    id: `modelperm-${hex()}`, object: "model_permission", created, allow_create_engine: false, allow_sampling: true,
    allow_logprobs: true, allow_search_indices: false, allow_view: true, allow_fine_tuning: false, organization: "*", group: null,
    is_blocking: false,
  };
  const model = {
    id: name, object: "model", created, owned_by: "embergram", root: name, parent: null, max_model_len: maxModelLen,
    permission: [permission],
  };
  return { object: "list", data: [model] };
}

/** A stream of server-sent events. The first chunk is there before the answer begins, so that a refusal has a status of its own. */
async function events<T>({ signal }: CallOptions, start: (options: CallOptions) => AsyncGenerator<T, void>): Promise<Response> {
  const gone = new AbortController();
  const chunks = start({ signal: signal ? AbortSignal.any([signal, gone.signal]) : gone.signal });
  let next = await chunks.next();
  const utf8 = new TextEncoder();
  const event = (data: string) => utf8.encode(`data: ${data}\n\n`);
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => signal?.addEventListener("abort", () => controller.error(signal.reason)),
    async pull(controller) {
      try {
        if (next.done) {
          controller.enqueue(event("[DONE]"));
          return controller.close();
        }
        controller.enqueue(event(JSON.stringify(next.value)));
        next = await chunks.next();
      } catch (error) {
        if (signal?.aborted) return;
        controller.enqueue(event(JSON.stringify(asApiError(error).body)));
        next = { done: true, value: undefined };
      }
    },
    async cancel() {
      gone.abort();
      await chunks.return().catch(() => {});
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
}

async function bodyOf(request: Request): Promise<unknown> {
  const type = request.headers.get("content-type")?.split(";")[0]!.trim().toLowerCase();
  if (type !== "application/json") throw notJsonType();
  const body = await request.text();
  if (body === "") return undefined;
  try {
    return JSON.parse(body);
  } catch {
    throw notJson(jsonError(body));
  }
}

function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json", ...headers } });
}

function hex(): string {
  return crypto.randomUUID().replaceAll("-", "").slice(0, 16);
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}
