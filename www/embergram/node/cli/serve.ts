/** `embergram serve`: the paths of vLLM's server, for this machine alone. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { printable } from "../../../../scripts/terminal.mjs";
import { EmbergramError, type ErrorCode, type Llm } from "../index.js";
import { load } from "./load.js";
import { UsageError, type Arguments } from "./options.js";

const HOST = "127.0.0.1";
/** Bytes of a request. */
const LARGEST = 16 << 20;

/** Statuses of errors that are not the server's own. */
const STATUSES: Partial<Record<ErrorCode, number>> = {
  invalid_params: 400, invalid_prompt: 400, prompt_too_long: 400, unsupported_model: 400, queue_full: 503, aborted: 503,
};

export async function serve(given: Arguments): Promise<void> {
  const llm = await load(given);
  const server = createServer((request, response) => void answer(llm, request, response));
  try {
    server.listen(given.port, HOST);
    await once(server, "listening");
  } catch (error) {
    throw new UsageError(`--port ${given.port} cannot be had: ${(error as Error).message}`);
  }
  console.log(printable(`${llm.model.name} on ${llm.model.adapter.name}: http://${HOST}:${(server.address() as AddressInfo).port}/v1`));
  const end = () => void llm.unload().finally(() => process.exit());
  process.once("SIGINT", end).once("SIGTERM", end);
}

async function answer(llm: Llm, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    await route(llm, request, response);
  } catch (error) {
    const { code, message } = error instanceof EmbergramError ? error : new EmbergramError("internal", String(error));
    fail(response, STATUSES[code] ?? 500, message, code);
  }
}

async function route(llm: Llm, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname } = new URL(request.url ?? "/", `http://${HOST}`);
  // A page anywhere may send requests to this machine; only those by this machine's own names are meant.
  if (!/^(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?$/.test(request.headers.host ?? "")) return fail(response, 403, "the server answers to 127.0.0.1 and localhost alone", "forbidden");
  const { origin } = request.headers;
  if (origin !== undefined && !/^https?:\/\/(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?$/.test(origin)) return fail(response, 403, "the server answers to pages of this machine alone", "forbidden");
  const { model } = llm;
  switch (`${request.method} ${pathname}`) {
    case "GET /health":
      return void response.end();
    case "GET /metrics":
      return void response.setHeader("content-type", "text/plain; version=0.0.4; charset=utf-8").end(await llm.getMetricsText());
    case "GET /v1/models":
      return json(response, 200, { object: "list", data: [{ id: model.name, object: "model", owned_by: "embergram", max_model_len: model.max_model_len }] });
    case "POST /v1/chat/completions":
      return complete(request, response, (body, options) => llm.chat.completions.create(body as never, options));
    case "POST /v1/completions":
      return complete(request, response, (body, options) => llm.completions.create(body as never, options));
    default:
      return fail(response, 404, `there is no ${request.method} ${pathname}`, "not_found");
  }
}

type Create = (body: unknown, options: { signal: AbortSignal }) => Promise<unknown>;

async function complete(request: IncomingMessage, response: ServerResponse, create: Create): Promise<void> {
  const body = await bodyOf(request);
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const made = await create(body, { signal: gone.signal });
  if (!(body as { stream?: boolean }).stream) return json(response, 200, made);
  response.setHeader("content-type", "text/event-stream; charset=utf-8").setHeader("cache-control", "no-store");
  const event = (data: unknown) => `data: ${JSON.stringify(data)}\n\n`;
  try {
    for await (const chunk of made as AsyncIterable<unknown>) if (!response.write(event(chunk))) await Promise.race([once(response, "drain"), once(response, "close")]);
    response.end("data: [DONE]\n\n");
  } catch (error) {
    if (!response.headersSent) throw error;
    const { code, message } = Object(error) as EmbergramError;
    response.end(event(errorBody(STATUSES[code] ?? 500, message, code)));
  }
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > LARGEST) throw new EmbergramError("invalid_params", `a request has at most ${LARGEST} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch (cause) {
    throw new EmbergramError("invalid_params", `the request is no JSON: ${(cause as Error).message}`, { cause });
  }
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

/** An error in OpenAI's shape. */
function errorBody(status: number, message: string, code: string) {
  const type = status === 404 ? "NotFoundError" : status < 500 ? "BadRequestError" : "InternalServerError";
  return { error: { message, type, param: null, code } };
}

function fail(response: ServerResponse, status: number, message: string, code: string): void {
  if (response.headersSent) return void response.end();
  json(response, status, errorBody(status, message, code));
}
