// A fetch behind HTTP: who may ask, what is too large, and that who leaves ends the call.
import { once } from "node:events";
import { createServer, request, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { listener } from "../../www/embergram/node/cli/http.js";
import { fake } from "./fake.js";

const slow = fake({}, true);
let server: Server;
let port: number;
beforeAll(async () => {
  server = createServer(listener(slow.fetch, { apiKey: "right", origins: ["https://a.example"] })).listen(0, "127.0.0.1");
  await once(server, "listening");
  ({ port } = server.address() as AddressInfo);
});
afterAll(() => server.close());

/** As a browser's `fetch` cannot: with any header. */
async function ask(path: string, headers: Record<string, string> = {}, method = "GET"): Promise<{ status: number; headers: IncomingHttpHeaders }> {
  const sent = request({ host: "127.0.0.1", port, path, method, headers }).end();
  const [response] = await once(sent, "response");
  response.resume();
  return { status: response.statusCode, headers: response.headers };
}

test("the key is asked for under /v1, and nowhere else", async () => {
  expect((await ask("/health")).status).toBe(200);
  expect((await ask("/v1/models")).status).toBe(401);
  expect((await ask("/v1/models", { authorization: "Bearer wrong" })).status).toBe(401);
  expect((await ask("/v1/models", { authorization: "bearer right" })).status).toBe(200);
});

test("pages of this machine and of origins that are named may ask, by this machine's names", async () => {
  for (const [origin, status] of [["http://localhost:5173", 200], ["https://a.example", 200], ["https://b.example", 403], ["null", 403], ["http://localhost.b.example", 403]] as const) {
    const answer = await ask("/health", { origin });
    expect([answer.status, answer.headers["access-control-allow-origin"]], origin).toEqual([status, status === 200 ? origin : undefined]);
  }
  expect((await ask("/health", { host: "b.example" })).status).toBe(403);
  const preflight = await ask("/v1/models", { origin: "https://a.example", "access-control-request-headers": "authorization" }, "OPTIONS");
  expect(preflight).toMatchObject({ status: 204, headers: { "access-control-allow-headers": "authorization", "access-control-allow-methods": "GET, POST" } });
});

test("a request that is too large is refused", async () => {
  expect((await ask("/tokenize", { "content-length": String(17 << 20) }, "POST")).status).toBe(413);
});

test("who leaves ends the call", async () => {
  const stop = new AbortController();
  const body = JSON.stringify({ messages: [{ role: "user", content: "Hi" }], stream: true });
  const response = await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
    method: "POST", body, headers: { "content-type": "application/json", authorization: "Bearer right" }, signal: stop.signal,
  });
  await response.body!.getReader().read();
  expect(slow.seen.left).toBe(false);
  stop.abort();
  await expect.poll(() => slow.seen.left, { timeout: 2000 }).toBe(true);
  expect(slow.seen.signal!.aborted).toBe(true);
});
