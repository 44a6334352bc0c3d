/** The beginnings of a model's files, for what their headers tell: nothing is kept, and no more is fetched than is asked for. */
import { EmbergramError } from "../error.js";
import { modelFiles, nameOf, unreadable } from "./files.js";
import { CONFIG, type ModelFiles } from "./folder.js";
import { probe, readRange, sameTag, type HttpOptions, type Remote } from "./http.js";
import { findFiles } from "./hub.js";
import { fileName, type ModelInput, type RemoteFile } from "./names.js";
import { filesOf, httpOptions, type OpenOptions } from "./open.js";
import { isOutdated, pieces } from "./remote.js";
import { shown } from "./secrets.js";
import { Entry } from "./store.js";
import { checkAborted } from "./wait.js";

/** Bytes of the first request for a header; each further one asks for twice as many. */
const FIRST = 256 << 10;

/** The beginning of one file. */
export interface ModelHead {
  readonly name: string;
  /** The file's bytes from its first one on, fetched as they are asked for. */
  bytes(): AsyncGenerator<Uint8Array, void, undefined>;
}

/** The beginnings of a model's files. */
export interface ModelHeads {
  /** Of those with the weights, in order. */
  readonly parts: readonly ModelHead[];
  /** A Hugging Face folder's `config.json`, as its bytes; none of a GGUF. */
  readonly config?: Uint8Array<ArrayBuffer>;
  /** Bytes of all files that a load takes. Asks where no answer told; undefined where no server tells. */
  size(): Promise<number | undefined>;
}

interface Head extends ModelHead {
  size(): Promise<number | undefined>;
}

/**
 * Finds a model's files, as `openModel` does.
 * @throws EmbergramError `invalid_config`, `http`, `network`, `aborted`, `invalid_file`, `unsupported_model`
 */
export async function openHeads(input: ModelInput, options: OpenOptions = {}): Promise<ModelHeads> {
  checkAborted(options.signal);
  const files = await filesOf(input, options);
  if (files !== undefined) return headsOf(await modelFiles(files), ofFile);
  const http: HttpOptions = { ...httpOptions(options), store: false };
  const ofRemote = (file: RemoteFile) => new RemoteHead(file, http, options.cache ?? true);
  const text = async (file: RemoteFile) => new TextDecoder().decode(await toTheEnd(ofRemote(file)));
  return headsOf(await findFiles(input as string | URL, options, http, text), ofRemote);
}

async function headsOf<F>({ weights, small }: ModelFiles<F>, headOf: (file: F) => Head): Promise<ModelHeads> {
  const parts = weights.map(headOf);
  const others = small.map(headOf);
  const config = others.find(({ name }) => name === CONFIG);
  return {
    parts,
    ...(config && { config: await toTheEnd(config) }),
    size: async () => {
      const sizes = await Promise.all([...parts, ...others].map((head) => head.size()));
      return sizes.reduce((sum, size) => (sum === undefined || size === undefined ? undefined : sum + size), 0);
    },
  };
}

async function toTheEnd(head: ModelHead): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: BlobPart[] = [];
  for await (const bytes of head.bytes()) chunks.push(bytes as Uint8Array<ArrayBuffer>);
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

function ofFile(file: Blob): Head {
  return {
    name: nameOf(file) || "model.gguf",
    size: async () => file.size,
    async *bytes() {
      for (let at = 0, length = FIRST; at < file.size; at += length, length *= 2) {
        const bytes = await file.slice(at, at + length).arrayBuffer().catch((error: unknown) => {
          throw unreadable(nameOf(file), error);
        });
        yield new Uint8Array(bytes);
      }
    },
  };
}

class RemoteHead implements Head {
  readonly name: string;
  /** What the server's side said of the file. */
  private told: Remote | undefined;

  constructor(private readonly file: RemoteFile, private readonly http: HttpOptions, private readonly cache: boolean) {
    this.name = fileName(file.url) || "model.gguf";
    this.told = file.told;
  }

  async size(): Promise<number | undefined> {
    if (this.told?.size !== undefined) return this.told.size;
    return ((await this.kept())?.meta ?? (await probe(this.file.url, this.http)))?.size;
  }

  async *bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    let at = 0;
    const kept = await this.kept();
    const use = await kept?.entry.use();
    try {
      for await (const bytes of kept ? pieces(kept.entry, kept.meta.pieces) : []) {
        at += bytes.length;
        yield bytes;
      }
    } finally {
      use?.release();
    }
    if (kept && at === kept.meta.size) return;
    const { url } = this.file;
    let version: Remote | undefined;
    for (let length = FIRST; at !== this.told?.size; length *= 2) {
      checkAborted(this.http.signal);
      const { bytes, remote } = await readRange(url, at, length, this.http);
      if (version?.etag !== undefined && remote.etag !== undefined && !sameTag(version.etag, remote.etag)) {
        throw new EmbergramError("network", `${shown(url)} was changed on its server while it was read. Inspect it again.`);
      }
      version = remote;
      this.told = { ...remote, ...this.told };
      at += bytes.length;
      if (bytes.length > 0) yield bytes;
      if (bytes.length < length) return;
    }
  }

  /** The file in the cache, where all of it is there. */
  private async kept() {
    const { url, key } = this.file;
    const entry = this.cache && /^https?:$/.test(url.protocol) ? await Entry.of({ url, key }) : undefined;
    const meta = await entry?.meta();
    return entry && meta?.complete && !isOutdated(meta, this.file.told?.sha256, this.file.told) ? { entry, meta } : undefined;
  }
}
