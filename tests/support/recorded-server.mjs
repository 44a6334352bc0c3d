// A server that plays what a vLLM server answered (tests/golden/vllm_server.json) to whoever asks the same.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";

const { exchanges } = JSON.parse(readFileSync(new URL("../golden/vllm_server.json", import.meta.url), "utf8"));
/** What tells requests apart; clients may ask for more. */
const TOLD = ["messages", "prompt", "max_tokens", "stream", "tools", "response_format", "structured_outputs", "echo", "n", "tokens"];

/**
 * @param {{ key?: string, without?: string[], allow?: string }} options the key that it wants; paths that it lacks; the origin
 *   whose pages may ask
 */
export async function recordedServer({ key, without = [], allow } = {}) {
  const seen = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const body = text === "" ? null : JSON.parse(text);
    seen.push({ method: request.method, path: request.url, headers: request.headers, body });
    if (allow !== undefined) {
      response.setHeader("access-control-allow-origin", allow).setHeader("access-control-allow-headers", "authorization, content-type");
      if (request.method === "OPTIONS") return response.writeHead(204).end();
    }
    const answer = (status, type, said) => response.writeHead(status, { "content-type": type }).end(said);
    if (key !== undefined && request.url.startsWith("/v1") && request.headers.authorization !== `Bearer ${key}`) return answer(401, "application/json", '{"error":"Unauthorized"}');
    const told = (given) => JSON.stringify(TOLD.map((name) => given?.[name] ?? null));
    const found = !without.includes(request.url) && exchanges.find(({ request: r }) => r.authorized && r.method === request.method && r.path === request.url
      && (typeof r.body === "string" ? false : told(r.body) === told(body) && (r.body?.temperature === undefined || r.body.temperature === body.temperature) && (r.body?.model ?? body?.model) === body?.model));
    if (!found) return answer(404, "application/json", '{"detail":"Not Found"}');
    return answer(found.response.status, found.response.headers["content-type"] ?? "text/plain", found.response.body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { origin: `http://127.0.0.1:${server.address().port}`, seen, close: () => server.close() };
}

/** An exchange by its name. */
export const exchange = (name) => exchanges.find((one) => one.name === name);
