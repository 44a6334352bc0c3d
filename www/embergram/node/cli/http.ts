/** A fetch as the listener of an HTTP server of Node, for this machine's own programs and pages. */
import { timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { Readable } from "node:stream";

/** Who may ask. */
export interface Doorkeeper {
  /** What clients must have as a bearer token, for the paths that vLLM's server guards. Default: none. */
  apiKey?: string | undefined;
  /** Origins of pages that may ask, beside this machine's; `*` is any. Default: none. */
  origins?: readonly string[] | undefined;
}

/** Bytes of a request. */
const LARGEST = 16 << 20;
const HERE = /^(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?$/;
const LOCAL = /^https?:\/\/(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?$/;

export function listener(answer: typeof fetch, { apiKey, origins = [] }: Doorkeeper = {}): RequestListener {
  return (request, response) => {
    respond(request, response).catch((error: Error) => {
      if (response.headersSent) return void response.destroy();
      refuse(response, 500, error.message, "InternalServerError");
    });
  };

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { host = "", origin, authorization = "" } = request.headers;
    // A page anywhere may send requests to this machine; only those by this machine's own names are meant.
    if (!HERE.test(host)) return refuse(response, 403, "the server answers to 127.0.0.1 and localhost alone", "Forbidden");
    if (origin !== undefined) {
      if (!LOCAL.test(origin) && !origins.includes(origin) && !origins.includes("*")) {
        return refuse(response, 403, `the server does not answer to pages of ${origin}; start it with --allowed-origins ${origin}`, "Forbidden");
      }
      response.setHeader("access-control-allow-origin", origin).setHeader("vary", "origin");
    }
    if (request.method === "OPTIONS") {
      const headers = request.headers["access-control-request-headers"];
      if (headers !== undefined) response.setHeader("access-control-allow-headers", headers);
      return void response.writeHead(204, { "access-control-allow-methods": "GET, POST", "access-control-max-age": "600" }).end();
    }
    const url = new URL(request.url ?? "/", `http://${host}`);
    const key = /^bearer (.*)$/i.exec(authorization)?.[1] ?? "";
    if (apiKey !== undefined && url.pathname.startsWith("/v1") && !same(key, apiKey)) return json(response, 401, { error: "Unauthorized" });
    if (Number(request.headers["content-length"] ?? 0) > LARGEST) {
      return refuse(response, 413, `a request has at most ${LARGEST} bytes`, "Request Entity Too Large");
    }
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const { method = "GET" } = request;
    const headers = Object.entries(request.headers).flatMap(([name, value]): [string, string][] => (typeof value === "string" ? [[name, value]] : []));
    const body = method === "POST" ? { body: await bodyOf(request) } : {};
    const answered = await answer(new Request(url, { method, headers, signal: gone.signal, ...body }));
    answered.headers.forEach((value, name) => response.setHeader(name, value));
    response.writeHead(answered.status);
    if (!answered.body) return void response.end();
    for await (const bytes of Readable.fromWeb(answered.body as Parameters<typeof Readable.fromWeb>[0])) {
      if (!response.write(bytes)) await Promise.race([once(response, "drain"), once(response, "close")]);
    }
    response.end();
  }
}

async function bodyOf(request: IncomingMessage): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > LARGEST) throw new Error(`a request has at most ${LARGEST} bytes`);
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks));
}

/** Compares in a time that does not tell how much of it is right. */
function same(given: string, right: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(right)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

function refuse(response: ServerResponse, status: number, message: string, type: string): void {
  json(response, status, { error: { message, type, param: null, code: status } });
}
