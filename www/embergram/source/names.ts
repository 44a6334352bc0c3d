import { EmbergramError } from "../error.js";
import type { Remote } from "./http.js";
import { shown, unsigned } from "./secrets.js";

/**
 * What can be loaded: a URL, a name on the Hugging Face hub, a file, or several files: all parts of a split GGUF, or a Hugging
 * Face folder's. A URL that ends in `/` is that of such a folder. A name is `hf:owner/repo[@revision]:Q4_K_M` for the GGUF of
 * that quantization, `hf:owner/repo[@revision]` for the repository's folder or its only GGUF, or
 * `hf:owner/repo/path/file.gguf[@revision]`. Under Node a text may be the path of a file or a folder, too.
 */
export type ModelInput = string | URL | Blob | File | readonly Blob[] | FileList;

/** How names become addresses, and what the cache knows them by. */
export interface NameOptions {
  /** What relative URLs are relative to; by default the address of the page or worker. */
  baseUrl?: string | URL;
  /** Where `hf:` names are found and fetched, such as a mirror's address; by default `https://huggingface.co`. */
  hfEndpoint?: string | URL;
  /**
   * The name by which the cache knows the model, in place of its address: for one and the same file behind changing
   * addresses. By default the address without credentials, fragment and the parameters of known signatures.
   */
  cacheKey?: string;
}

/** One file to fetch. */
export interface RemoteFile {
  url: URL;
  /** What the cache knows the file by. It may hold secrets; what is stored is its hash. */
  key: string;
  /** Where the hub answers with the file's Git LFS pointer, which holds size and sha256. */
  pointer?: URL;
  /** What the hub's list of files says of it. */
  told?: Remote;
}

type RemoteAddress = Omit<RemoteFile, "key">;

/** How the name of a split GGUF's part ends. */
export const SPLIT = /-(\d{5})-of-(\d{5})(\.gguf)$/i;

/** The number of a split GGUF's part, from its name: 1-based; undefined for a file that is whole. */
export function splitOf(name: string): { part: number; parts: number } | undefined {
  const match = SPLIT.exec(name);
  return match ? { part: Number(match[1]), parts: Number(match[2]) } : undefined;
}

/**
 * The files a name stands for: one, or all parts of a split GGUF (`-00001-of-00003.gguf`, whichever part is named).
 * @throws EmbergramError `invalid_config` for what is no address
 */
export function remoteFiles(input: string | URL, options: NameOptions = {}): RemoteFile[] {
  const first = isHubName(input) ? hubFile(input, options) : { url: absolute(input, options) };
  const split = splitOf(first.url.pathname);
  if (split === undefined) return [{ ...first, key: keyOf(first.url, options) }];
  const { part, parts } = split;
  if (part < 1 || part > parts) {
    throw new EmbergramError("invalid_config", `model: ${shown(first.url)} is named part ${part} of ${parts}; parts count from 00001.`);
  }
  return Array.from({ length: parts }, (_, i) => {
    const url = partUrl(first.url, i + 1);
    const file: RemoteFile = { url, key: keyOf(url, options) };
    if (first.pointer) file.pointer = partUrl(first.pointer, i + 1);
    return file;
  });
}

/**
 * What the cache knows a file by.
 * @throws EmbergramError `invalid_config`
 */
export function keyOf(url: URL, { cacheKey }: NameOptions): string {
  if (cacheKey === undefined) return unsigned(url);
  if (typeof cacheKey !== "string" || cacheKey === "") {
    throw new EmbergramError("invalid_config", "cacheKey: give a text that names the model, or leave it out.");
  }
  const split = splitOf(url.pathname);
  return split === undefined ? `key:${cacheKey}` : `key:${cacheKey}#${split.part}`;
}

/** What the cache knows a folder's file by. */
export function folderKeyOf(url: URL, options: NameOptions): string {
  const key = keyOf(url, options);
  return options.cacheKey === undefined ? key : `${key}/${fileName(url)}`;
}

/** The last piece of an address. */
export const fileName = (url: URL) => url.pathname.slice(url.pathname.lastIndexOf("/") + 1);

/** The address of a folder, where this is one; a name of the hub is none. */
export function folderAddress(input: string | URL, options: NameOptions): URL | undefined {
  const url = isHubName(input) ? undefined : absolute(input, options);
  return url?.pathname.endsWith("/") ? url : undefined;
}

function partUrl(url: URL, part: number): URL {
  const other = new URL(url);
  other.pathname = url.pathname.replace(SPLIT, (_, __, parts: string, end: string) => `-${String(part).padStart(5, "0")}-of-${parts}${end}`);
  return other;
}

function absolute(input: string | URL, { baseUrl }: NameOptions): URL {
  const base = baseUrl ?? (globalThis as { location?: { href: string } }).location?.href;
  try {
    const url = new URL(input, base);
    url.hash = "";
    return url;
  } catch {
    throw new EmbergramError(
      "invalid_config",
      `model: "${shown(input)}" is no address${base ? ` (relative to ${shown(base)})` : ""}. Give a URL, "hf:owner/repo:Q4_K_M", a File or a Blob` +
        (base ? "." : "; a relative URL needs the option baseUrl here."),
    );
  }
}

/** What a segment of an `hf:` name may be: nothing that leads to another place, encoded or not. */
const isSegment = (text: string) => /^[A-Za-z0-9._-]+$/.test(text) && text !== "." && text !== "..";

/** An `hf:` name in its pieces. */
export interface HubName {
  owner: string;
  repo: string;
  revision: string;
  /** The path of a file, or none where the repository is to be searched. */
  file: string | undefined;
  /** What of the repository is meant, such as `Q4_K_M`; never with `file`. */
  tag: string | undefined;
}

/** Whether a model is named as one of the hub. */
export const isHubName = (input: unknown): input is string => typeof input === "string" && input.startsWith("hf:");

/**
 * Takes an `hf:` name apart.
 * @throws EmbergramError `invalid_config`
 */
export function hubName(name: string): HubName {
  const [place = "", tag, ...tags] = name.slice("hf:".length).split(":");
  const [path = "", revision = "main", ...revisions] = place.split("@");
  const segments = path.split("/");
  const [owner, repo, ...file] = segments;
  const pieces = [...segments, ...revision.split("/"), ...(tag === undefined ? [] : [tag])];
  if (owner === undefined || repo === undefined || tags.length + revisions.length > 0 || (tag !== undefined && file.length > 0) || !pieces.every(isSegment)) {
    throw new EmbergramError(
      "invalid_config",
      `model: "${shown(name)}" should read hf:owner/repo/file.gguf, hf:owner/repo/file.gguf@revision, hf:owner/repo:Q4_K_M or ` +
        `hf:owner/repo@revision:Q4_K_M, with letters, digits, "-", "_" and "." between the other signs and no "." or ".." alone. ` +
        `Give the URL of a file that is named otherwise.`,
    );
  }
  return { owner, repo, revision, file: file.length > 0 ? file.join("/") : undefined, tag };
}

/** An address on the hub: `before/owner/repo/door/revision/after`. */
export function hubUrl({ owner, repo, revision }: HubName, before: string, door: string, after: string, { hfEndpoint = "https://huggingface.co" }: NameOptions): URL {
  try {
    return new URL(`${String(hfEndpoint).replace(/\/+$/, "")}${before}/${owner}/${repo}/${door}/${encodeURIComponent(revision)}${after}`);
  } catch {
    throw new EmbergramError("invalid_config", `hfEndpoint: "${shown(hfEndpoint)}" is no absolute URL, such as "https://huggingface.co".`);
  }
}

function hubFile(text: string, options: NameOptions): RemoteAddress {
  const name = hubName(text);
  const at = (door: string) => hubUrl(name, "", door, `/${name.file ?? ""}`, options);
  return { url: at("resolve"), pointer: at("raw") };
}
