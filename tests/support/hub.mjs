// A server of server.mjs made to answer as the Hugging Face hub does, for one revision of one repository.
//
// The tree's shape follows the hub's "Hub API Endpoints" page (GET /api/models/{namespace}/{repo}/tree/{rev}/{path}) and the
// interface ListFileEntry of huggingface.js: an array of { type, oid, size, path }, with { lfs: { oid, size, pointerSize } }
// for files in LFS, whose lfs.oid is the sha256. Pages hang together by `Link: <...?cursor=...>; rel="next"`. Errors come
// with X-Error-Code and X-Error-Message and { "error": ... }, as huggingface_hub's `hf_raise_for_status` reads them.
import { createHash } from "node:crypto";

const EXPOSED = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,ETag,Link,Accept-Ranges,Content-Range",
};

/**
 * @param {Awaited<ReturnType<typeof import("./server.mjs").serve>>} server
 * @param {string} repository `owner/name`
 * @param {Record<string, Uint8Array>} files by path; what is no .gguf lies outside LFS
 * @param {{revision?: string, page?: number, link?: (url: string) => string}} [options] `page`: entries of one answer; `link`:
 *   what the answer says of the next page's address
 * @returns the paths of the tree and of each file on the server
 */
export function hub(server, repository, files, { revision = "main", page = 1000, link = (url) => url } = {}) {
  const hash = (kind, bytes) => createHash(kind).update(bytes).digest("hex");
  const folders = new Set(Object.keys(files).flatMap((path) => path.split("/").slice(0, -1).map((_, i, all) => all.slice(0, i + 1).join("/"))));
  const entries = [
    ...[...folders].map((path) => ({ type: "directory", oid: hash("sha1", path), size: 0, path })),
    ...Object.entries(files).map(([path, bytes]) => ({
      type: "file", oid: hash("sha1", bytes), size: bytes.length, path,
      ...(path.endsWith(".gguf") ? { lfs: { oid: hash("sha256", bytes), size: bytes.length, pointerSize: 134 } } : {}),
    })),
  ];
  const name = encodeURIComponent(revision);
  const tree = `/api/models/${repository}/tree/${name}`;
  const file = (path) => `/${repository}/resolve/${name}/${path}`;
  server.fault(tree, ({ query }) => {
    const start = Number(query.get("cursor") ?? 0);
    const next = start + page;
    // Without `recursive` the hub lists the top alone.
    const listed = query.get("recursive") === "true" ? entries : entries.filter(({ path }) => !path.includes("/"));
    const following = `${server.origin}${tree}?recursive=true&cursor=${next}`;
    return {
      status: 200, body: JSON.stringify(listed.slice(start, next)),
      headers: { "content-type": "application/json", ...EXPOSED, ...(next < listed.length ? { link: `<${link(following)}>; rel="next"` } : {}) },
    };
  });
  for (const [path, bytes] of Object.entries(files)) server.file(file(path), bytes, { etag: `"${hash("sha1", bytes)}"`, ...EXPOSED });
  return { tree, file };
}

/** An answer with which the hub refuses. */
export const refusal = (status, code, message) => ({
  status, body: JSON.stringify({ error: message }),
  headers: { "content-type": "application/json", ...EXPOSED, ...(code ? { "x-error-code": code, "x-error-message": message } : {}) },
});
