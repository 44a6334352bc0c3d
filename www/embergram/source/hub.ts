/** Models by the name of their repository: which of its files are meant. */
import { EmbergramError } from "../error.js";
import { CONFIG, folderFiles, INDEX, isFolder as areFolder, isFolderFile, isWeights, WEIGHTS, type ModelFiles } from "./folder.js";
import { probeOptional, readPage, type HttpOptions, type Remote } from "./http.js";
import {
  folderAddress, folderKeyOf, hubName, hubUrl, isHubName, keyOf, remoteFiles, SPLIT, splitOf, type HubName,
  type NameOptions, type RemoteFile,
} from "./names.js";
import { shown } from "./secrets.js";
import { Entry } from "./store.js";

/** A file of a repository. */
interface HubFile {
  /** Where it lies in the repository. */
  path: string;
  url: URL;
  /** Its size and, for what is in LFS, its sha256. */
  told?: Remote;
}

/** A model in a repository. */
interface HubModel {
  /** Its path without what all GGUF files end in, and without the number of a part. */
  name: string;
  /** How many files it should have. */
  parts: number;
  /** Those that are there, in order. */
  files: HubFile[];
}

/** A thousand entries each. */
const MOST_PAGES = 100;
/** Models that an error lists. */
const MOST_LISTED = 12;
/** What llama.cpp passes over as well: images' projectors, quantization's statistics, and drafts for speculation. */
const SIDECAR = /mmproj|imatrix|^(mtp|eagle3|dflash)-/i;

/** Reads a folder's index, from the cache where it may. */
type ReadText = (file: RemoteFile) => Promise<string>;

/**
 * The files that a name stands for. A repository is asked for what it holds, unless the cache holds the one model that the
 * tag fits.
 * @throws EmbergramError `invalid_config`, `unsupported_model`, `invalid_file`, `http`, `network`, `aborted`
 */
export async function findFiles(
  input: string | URL, options: NameOptions & { cache?: boolean }, http: HttpOptions, text: ReadText,
): Promise<ModelFiles<RemoteFile>> {
  const address = folderAddress(input, options);
  if (address !== undefined) return folderAt(address, options, http, text);
  const name = repository(input);
  if (name === undefined) return { weights: remoteFiles(input, options), small: [] };
  const kept = name.tag === undefined || options.cache === false ? [] : await keptModels(name, options, true);
  if (kept.length === 1 && isWhole(kept[0]!)) return { weights: remote(kept[0]!, options), small: [] };
  const files = await listFiles(name, options, http);
  if (name.tag === undefined && isFolder(files)) return repositoryFolder(name, files, options, text);
  return { weights: remote(choose(name, files), options), small: [] };
}

/** The files that a name stands for, as far as can be told without asking: of a repository or a folder those in the cache. */
export async function knownFiles(input: string | URL, options: NameOptions): Promise<RemoteFile[]> {
  const address = folderAddress(input, options);
  if (address !== undefined) return keptFolder(address, options);
  const name = repository(input);
  if (name === undefined) return remoteFiles(input, options);
  const models = (await keptModels(name, options, false)).flatMap((model) => remote(model, options));
  return name.tag === undefined ? [...models, ...(await keptFolder(hubUrl(name, "", "resolve", "/", options), options))] : models;
}

/** A repository that is a Hugging Face folder. */
async function repositoryFolder(name: HubName, files: readonly HubFile[], options: NameOptions, text: ReadText): Promise<ModelFiles<RemoteFile>> {
  const byName = new Map(files.map((file) => [file.path, file]));
  const { owner, repo } = name;
  const found = await folderFiles({
    place: placeOf(name),
    find: async (path) => {
      const { url, told } = byName.get(path) ?? {};
      return url && { url, key: folderKeyOf(url, options), ...(told && { told }) };
    },
    text,
  });
  return { ...found, name: `${owner}/${repo}` };
}

/** The Hugging Face folder at an address, which lists nothing: each file is asked for that the cache does not hold. */
async function folderAt(address: URL, options: NameOptions & { cache?: boolean }, http: HttpOptions, text: ReadText): Promise<ModelFiles<RemoteFile>> {
  const at = (name: string): RemoteFile => {
    const url = new URL(address);
    url.pathname += encodeURIComponent(name);
    return { url, key: folderKeyOf(url, options) };
  };
  const kept = new Set(options.cache === false ? [] : (await keptFolder(address, options, true)).map(({ key }) => key));
  const has = (name: string) => kept.has(at(name).key);
  // Small files come before weights: where all weights are kept, what else is not is hardly there, and need not hold up a load.
  let whole = true;
  const find = async (name: string): Promise<RemoteFile | undefined> => {
    const file = at(name);
    if (has(name)) return file;
    if (name === WEIGHTS && has(INDEX)) return undefined;
    if (name === CONFIG || isWeights(name)) whole = false;
    try {
      const told = await probeOptional(file.url, whole ? { ...http, retries: 0 } : http);
      return told === null ? undefined : { ...file, ...(told && { told }) };
    } catch (error) {
      if (whole && (error as Partial<EmbergramError>).code === "network") return undefined;
      throw error;
    }
  };
  const name = address.pathname.split("/").at(-2)!;
  return { ...(await folderFiles({ place: shown(address), find, text })), ...(name && { name }) };
}

/** The files in the cache that lie in the folder at this address. */
async function keptFolder(address: URL, options: NameOptions, complete = false): Promise<RemoteFile[]> {
  const found: RemoteFile[] = [];
  for (const { key, meta } of await Entry.all()) {
    const name = meta?.url.slice(meta.url.lastIndexOf("/") + 1);
    if (meta === undefined || !isFolderFile(name!) || (complete && !meta.complete)) continue;
    const url = new URL(address);
    url.pathname += name!;
    const file = { url, key: folderKeyOf(url, options) };
    if (key === (await Entry.keyOf(file.key))) found.push(file);
  }
  return found;
}

/** Whether a repository is a Hugging Face folder. */
const isFolder = (files: readonly HubFile[]) => areFolder(files.map(({ path }) => path));

const placeOf = ({ owner, repo, revision }: HubName) => `hf:${owner}/${repo}${revision === "main" ? "" : `@${revision}`}`;

/** An `hf:` name that tells no file. */
function repository(input: string | URL): HubName | undefined {
  const name = isHubName(input) ? hubName(input) : undefined;
  return name?.file === undefined ? name : undefined;
}

const remote = ({ files }: HubModel, options: NameOptions): RemoteFile[] =>
  files.map(({ url, told }) => ({ url, key: keyOf(url, options), ...(told && { told }) }));

const isWhole = ({ files, parts }: HubModel) => files.length === parts;

/** The models in the cache that a name fits, of what lies there under these options. */
async function keptModels(name: HubName, options: NameOptions, complete: boolean): Promise<HubModel[]> {
  const base = shown(hubUrl(name, "", "resolve", "/", options));
  const files: HubFile[] = [];
  for (const { key, meta } of await Entry.all()) {
    if (!meta?.url.startsWith(base) || (complete && !meta.complete)) continue;
    const url = new URL(meta.url);
    if (key === (await Entry.keyOf(keyOf(url, options)))) files.push({ path: meta.url.slice(base.length), url });
  }
  return fitting(modelsOf(files), name.tag);
}

/** Whether a path stays in its repository. */
const isInside = (path: string) => path.split("/").every((segment) => segment !== "" && segment !== "." && segment !== "..");

/** All files of a repository, in one request for each thousand. */
async function listFiles(name: HubName, options: NameOptions, http: HttpOptions): Promise<HubFile[]> {
  const tree = hubUrl(name, "/api/models", "tree", "?recursive=true", options);
  const files: HubFile[] = [];
  for (let page = 0; page < MOST_PAGES; page++) {
    const { text, next } = await readPage(tree, http);
    for (const { path, told } of parseTree(tree, text)) {
      const url = hubUrl(name, "", "resolve", `/${path.split("/").map(encodeURIComponent).join("/")}`, options);
      files.push({ path, url, told });
    }
    if (next === undefined) return files;
    // Mirrors hand on links that lead to the hub itself: what counts is which page they mean.
    tree.search = next.search;
  }
  throw new EmbergramError("http", `${shown(tree)} lists files on more than ${MOST_PAGES} pages. Give the file's own name, as in hf:owner/repo/file.gguf.`);
}

interface TreeEntry {
  type: string;
  path: string;
  size: number;
  oid: string;
  lfs?: { oid: string; size: number };
}

function parseTree(url: URL, text: string): { path: string; told: Remote }[] {
  let entries: Partial<TreeEntry>[];
  try {
    entries = JSON.parse(text) as Partial<TreeEntry>[];
    if (!Array.isArray(entries)) throw new TypeError("no array");
  } catch (cause) {
    throw new EmbergramError("http", `${shown(url)} answered with something else than a list of files. Check the option hfEndpoint, and that a proxy lets the hub's API through.`, { cause });
  }
  return entries.flatMap((entry) => {
    const { type, path, size, oid, lfs } = Object(entry) as typeof entry;
    if (type !== "file" || typeof path !== "string" || !isInside(path)) return [];
    const told: Remote = {};
    const bytes = lfs?.size ?? size;
    if (Number.isSafeInteger(bytes)) told.size = bytes!;
    if (/^[0-9a-f]{64}$/.test(lfs?.oid ?? "")) told.sha256 = lfs!.oid;
    // What is not in LFS is answered with its git hash as ETag.
    else if (typeof oid === "string") told.etag = `"${oid}"`;
    return [{ path, told }];
  });
}

/** The GGUF models among files, each with its parts. */
function modelsOf(files: readonly HubFile[]): HubModel[] {
  const models = new Map<string, HubModel>();
  for (const file of files) {
    const base = file.path.slice(file.path.lastIndexOf("/") + 1);
    if (!/\.gguf$/i.test(base) || SIDECAR.test(base)) continue;
    const { part, parts } = splitOf(base) ?? { part: 1, parts: 1 };
    if (part < 1 || part > parts) continue;
    const name = file.path.replace(SPLIT, "$3").replace(/\.gguf$/i, "");
    const key = `${parts}/${name}`;
    const model = models.get(key) ?? { name, parts, files: [] };
    models.set(key, model);
    model.files.push(file);
  }
  for (const { files } of models.values()) files.sort((a, b) => (splitOf(a.path)?.part ?? 1) - (splitOf(b.path)?.part ?? 1));
  return [...models.values()];
}

/** A quantization whose name goes on: `_M` of `Q4_K_M` is no name of its own. */
const GOES_ON = /(^|[-._])[it]?q\d(_[a-z0-9]+)*$/;

/** Whether a name, or a folder on the way to it, is a tag or ends in one, in capitals or not. */
function ends(name: string, tag: string): boolean {
  const end = tag.toLowerCase();
  return name.toLowerCase().split("/").some((piece) => {
    if (!piece.endsWith(end)) return false;
    const rest = piece.slice(0, -end.length);
    return rest === "" || /[-.]$/.test(rest) || (rest.endsWith("_") && !GOES_ON.test(rest.slice(0, -1)));
  });
}

/** The models that a tag fits. The whole name goes before its end, `Q4_K_M` before a dynamic `UD-Q4_K_M`. */
function fitting(models: readonly HubModel[], tag: string | undefined): HubModel[] {
  if (tag === undefined) return [...models];
  const exact = models.filter(({ name }) => name.slice(name.lastIndexOf("/") + 1).toLowerCase() === tag.toLowerCase());
  const fit = exact.length > 0 ? exact : models.filter(({ name }) => ends(name, tag));
  const plain = fit.filter(({ name }) => !ends(name, `UD-${tag}`));
  return plain.length > 0 ? plain : fit;
}

/**
 * The one model that a name means.
 * @throws EmbergramError `invalid_config`, `unsupported_model`, `invalid_file`
 */
function choose(name: HubName, files: readonly HubFile[]): HubModel {
  const { tag } = name;
  const place = placeOf(name);
  const models = modelsOf(files);
  if (models.length === 0) {
    const folder = isFolder(files);
    const instead = folder
      ? `It is a Hugging Face folder: give ${place}, and quantization: "q8_0" or "q4_0" to have it smaller.`
      : "Give a repository of GGUF files: many have the model's name and end in -GGUF.";
    throw new EmbergramError("unsupported_model", `model: ${place} holds no GGUF model. ${instead}`);
  }
  const [model, ...others] = fitting(models, tag);
  if (model === undefined) {
    throw new EmbergramError("invalid_config", `model: ${place} has no model "${tag}". It holds ${list(models)}.`);
  }
  if (others.length > 0) {
    const held = tag === undefined ? `holds ${others.length + 1} models` : `has ${others.length + 1} models "${tag}"`;
    const how = tag === undefined ? `${place}:TAG, where TAG is how the name ends, such as Q4_K_M, or the whole name` : `${place}:NAME with the whole name`;
    throw new EmbergramError("invalid_config", `model: ${place} ${held}: ${list([model, ...others])}. Say which, as ${how}, or give the file: hf:owner/repo/file.gguf.`);
  }
  if (!isWhole(model)) {
    throw new EmbergramError("invalid_file", `model: ${place} has ${model.files.length} of ${model.parts} parts of ${model.name}. Give another model, or a revision that has all.`);
  }
  return model;
}

/** Models with their sizes, not too many. */
function list(models: readonly HubModel[]): string {
  const one = ({ name, files }: HubModel) => {
    const size = files.reduce((sum, { told }) => sum + (told?.size ?? 0), 0);
    return `${name.slice(-100)} (${size < 1e9 ? `${(size / 1e6).toFixed(1)} MB` : `${(size / 1e9).toFixed(1)} GB`})`;
  };
  const more = models.length - MOST_LISTED;
  return models.slice(0, MOST_LISTED).map(one).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
