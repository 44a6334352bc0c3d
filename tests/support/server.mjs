// A real HTTP server on loopback that tests can make misbehave: cut connections, stall, delay, answer any status,
// ignore Range, change the ETag, and go away and come back on the same port.
import { createServer } from "node:http";
import sirv from "sirv";

/**
 * @typedef {object} Fault What one answer does wrong; all optional.
 * @property {number} [status] answer with this status and no file
 * @property {string} [body] what is said with that status
 * @property {number} [cutAfter] destroy the connection after this many bytes of the body
 * @property {number} [stallAfter] send this many bytes of the body, then nothing more
 * @property {number} [delay] wait this many ms before the answer
 * @property {number} [rate] send at most this many bytes per second
 * @property {boolean} [ignoreRange] answer 200 and the whole file, whatever was asked
 * @property {boolean} [chunked] do not tell the length
 * @property {Record<string, string>} [headers] further headers; an empty value takes a header away
 *
 * @typedef {object} Seen
 * @property {string} method
 * @property {string} path
 * @property {URLSearchParams} query
 * @property {import("node:http").IncomingHttpHeaders} headers
 * @property {number} time milliseconds, of arrival
 * @property {number} status what was answered
 * @property {number} sent bytes of body handed to the socket
 */

/**
 * Starts a server.
 * @param {{root?: string, headers?: Record<string, string>, port?: number}} [options] `root`: a folder of static files,
 *   read anew at each request
 */
export async function serve({ root, headers: common = {}, port = 0 } = {}) {
  /** @type {Map<string, {bytes: Uint8Array, headers: Record<string, string>}>} */
  const files = new Map();
  /** @type {Map<string, (seen: Seen, count: number) => Fault | undefined>} */
  const faults = new Map();
  /** @type {Seen[]} */
  const requests = [];
  const sockets = new Set();
  const statics = root === undefined ? undefined : sirv(root, { dev: true, etag: true });

  async function answer(request, response) {
    const { pathname, searchParams: query } = new URL(request.url, "http://x");
    const path = decodeURI(pathname);
    const seen = { method: request.method, path, query, headers: request.headers, time: performance.now(), status: 0, sent: 0 };
    requests.push(seen);
    response.on("close", () => { seen.status = response.statusCode; });
    for (const [name, value] of Object.entries(common)) response.setHeader(name, value);
    const count = requests.filter((r) => r.path === path && r.method === seen.method).length;
    const fault = faults.get(path)?.(seen, count) ?? {};
    if (fault.delay) await sleep(fault.delay);
    if (fault.status) {
      response.writeHead(fault.status, fault.headers).end(fault.body);
      return;
    }
    if (request.method === "OPTIONS") {
      response.writeHead(204).end();
      return;
    }
    const file = files.get(path);
    if (file) await send(request, response, file, fault, seen);
    else if (statics) statics(request, response, () => response.writeHead(404).end());
    else response.writeHead(404).end();
  }

  async function send(request, response, { bytes, headers }, fault, seen) {
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const ranged = range && !fault.ignoreRange;
    const start = ranged ? Number(range[1]) : 0;
    const end = ranged && range[2] ? Math.min(Number(range[2]) + 1, bytes.length) : bytes.length;
    if (ranged && start >= bytes.length) {
      response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
      return;
    }
    const all = {
      "content-type": "application/octet-stream",
      ...(fault.ignoreRange ? {} : { "accept-ranges": "bytes" }),
      ...(fault.chunked ? {} : { "content-length": String(end - start) }),
      ...(ranged ? { "content-range": `bytes ${start}-${end - 1}/${bytes.length}` } : {}),
      ...headers,
      ...fault.headers,
    };
    response.writeHead(ranged ? 206 : 200, Object.fromEntries(Object.entries(all).filter(([, v]) => v !== "")));
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    const last = Math.min(end, start + Math.min(fault.cutAfter ?? Infinity, fault.stallAfter ?? Infinity));
    const step = fault.rate ? Math.max(1, Math.floor(fault.rate / 20)) : 1 << 18;
    for (let at = start; at < last && !response.destroyed; at += step) {
      const piece = bytes.subarray(at, Math.min(at + step, last));
      // One write at a time, flushed, so that a cut comes where it was asked for.
      await new Promise((done) => {
        response.once("close", done);
        response.write(piece, () => {
          response.off("close", done);
          done();
        });
      });
      seen.sent += piece.length;
      if (fault.rate) await sleep(50);
    }
    if (fault.cutAfter !== undefined && last < end) {
      // A browser throws away what it has not read of a connection that breaks: let it read.
      await sleep(200);
      response.destroy();
    } else if (fault.stallAfter === undefined || last === end) {
      response.end();
    }
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((e) => response.destroy(e));
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
  });
  const listen = (at) => new Promise((done, fail) => server.once("error", fail).listen(at, "127.0.0.1", done));
  await listen(port);
  const bound = server.address().port;

  const api = {
    origin: `http://127.0.0.1:${bound}`,
    /** The same server under another origin. */
    otherOrigin: `http://localhost:${bound}`,
    requests,
    /** The requests for one path. @param {string} path */
    of: (path) => requests.filter((r) => r.path === path),
    /**
     * Serves these bytes at a path.
     * @param {string} path
     * @param {Uint8Array} bytes
     * @param {Record<string, string>} [headers] without `etag` there is none
     */
    file(path, bytes, headers = { etag: '"v1"' }) { files.set(path, { bytes, headers }); },
    /**
     * Decides each answer of a path.
     * @param {string} path
     * @param {(seen: Seen, count: number) => Fault | undefined} [decide] `count`: 1 for the first request of this method;
     *   left out, the path behaves again
     */
    fault(path, decide) {
      if (decide) faults.set(path, decide);
      else faults.delete(path);
    },
    /** Forgets files, faults and requests. */
    reset() { files.clear(); faults.clear(); requests.length = 0; },
    /** Goes away: open connections break, new ones are refused. */
    async stop() {
      const closed = new Promise((done) => server.close(done));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
    /** Comes back on the same port. */
    start: () => listen(bound),
    close: () => api.stop(),
  };
  return api;
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
