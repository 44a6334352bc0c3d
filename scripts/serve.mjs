// A static server on loopback: folders and single files under chosen paths, with byte ranges.
import { createServer } from "node:http";
import { basename, dirname } from "node:path";
import sirv from "sirv";

/**
 * Serves `{ "/path/": folder, "/name.gguf": file }` and returns `{ url, close }`. Longer paths win.
 * @param {Record<string, string>} places
 */
export async function serve(places, { port = 0, headers = {} } = {}) {
  const routes = Object.entries(places)
    .sort(([a], [b]) => b.length - a.length)
    .map(([path, place]) => {
      const folder = path.endsWith("/");
      return { path, folder, name: basename(place), handler: sirv(folder ? place : dirname(place), { dev: true }) };
    });
  const server = createServer((request, response) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    const missing = () => response.writeHead(404).end("not found");
    let path;
    try {
      path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    } catch {
      return response.writeHead(400).end("no address");
    }
    const route = routes.find((r) => (r.folder ? path.startsWith(r.path) : path === r.path));
    if (!route) return missing();
    request.url = route.folder ? `/${request.url.slice(route.path.length)}` : `/${encodeURI(route.name)}`;
    route.handler(request, response, missing);
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))),
  };
}
