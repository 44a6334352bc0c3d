/** The OpenAI-shaped door for programs: `llm.chat.completions.create` and `llm.completions.create`. */
import type { CallOptions } from "../llm.js";
import { chat, chatChunks, complete, completionChunks, type Backend, type Head } from "./answers.js";
import { readRequest, type Request } from "./request.js";
import type {
  ChatCompletionCreateParams, ChatCompletions, CompletionCreateParams, Completions, Stream,
} from "./types.js";

export type { Backend } from "./answers.js";

export function chatCompletions(backend: Backend): ChatCompletions {
  async function create(body: ChatCompletionCreateParams, options: CallOptions = {}) {
    const request = await readRequest(backend, "chat", body, "program");
    const head = newHead("chatcmpl", request, backend);
    return request.stream ? stream(options, (own) => chatChunks(backend, request, head, own)) : chat(backend, request, head, options);
  }
  return { create: create as ChatCompletions["create"] };
}

export function completions(backend: Backend): Completions {
  async function create(body: CompletionCreateParams, options: CallOptions = {}) {
    const request = await readRequest(backend, "completion", body, "program");
    const head = newHead("cmpl", request, backend);
    return request.stream ? stream(options, (own) => completionChunks(backend, request, head, own)) : complete(backend, request, head, options);
  }
  return { create: create as Completions["create"] };
}

/** A stream with a controller of its own beside the caller's signal. */
function stream<T>({ signal }: CallOptions, start: (options: CallOptions) => AsyncGenerator<T, void>): Stream<T> {
  const controller = new AbortController();
  const either = signal ? AbortSignal.any([signal, controller.signal]) : controller.signal;
  async function* chunks() {
    try {
      yield* start({ signal: either });
    } catch (error) {
      // As with OpenAI's client, one's own abort ends the loop and is no error.
      if (!controller.signal.aborted) throw error;
    }
  }
  return Object.assign(chunks(), { controller });
}

/** What an answer begins with; the id is the request's where it has one. */
export function newHead(kind: "chatcmpl" | "cmpl", { id, model }: Pick<Request, "id" | "model">, { name }: Pick<Backend, "name">): Head {
  const own = id ?? crypto.randomUUID().replaceAll("-", "");
  return { id: `${kind}-${own}`, created: Math.floor(Date.now() / 1000), model: model ?? name };
}
