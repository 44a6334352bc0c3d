/** Hugging Face folders: which of their files make up the model. */
import { EmbergramError } from "../error.js";

export const CONFIG = "config.json";
export const WEIGHTS = "model.safetensors";
/** Tells which tensor lies in which shard. */
export const INDEX = "model.safetensors.index.json";

/** The small files that the engine takes, in its order. Of these only `config.json` is always there. */
const SMALL = [CONFIG, "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];

/** A model's files. */
export interface ModelFiles<F> {
  /** Those with the weights, in order: all parts of a GGUF, or a folder's safetensors. */
  weights: F[];
  /** A folder's small files, `config.json` first; none of a GGUF. */
  small: F[];
  /** What metrics call a folder that has no name of its own. */
  name?: string;
}

/** A folder somewhere. */
export interface Folder<F> {
  /** As errors show it. */
  place: string;
  /** Its file of this name; undefined where it has none. */
  find(name: string): Promise<F | undefined>;
  text(file: F): Promise<string>;
}

/** Whether these names are those of a Hugging Face folder's files. */
export function isFolder(names: readonly string[]): boolean {
  return names.includes(CONFIG) && (names.includes(WEIGHTS) || names.includes(INDEX));
}

/** Whether a file of this name holds weights. */
export const isWeights = (name: string) => /\.safetensors$/i.test(name);

/** Whether a file of this name is one that a Hugging Face folder is loaded from. */
export function isFolderFile(name: string): boolean {
  return SMALL.includes(name) || name === INDEX || isWeights(name);
}

/**
 * The files of a folder that a load takes.
 * @throws EmbergramError `invalid_file` for an index that is none or names what is not there, `unsupported_model` without weights
 */
export async function folderFiles<F>(folder: Folder<F>): Promise<ModelFiles<F>> {
  const { place, find } = folder;
  const weights = await weightsOf(folder);
  const small = await Promise.all(SMALL.map(find));
  if (small[0] === undefined) throw new EmbergramError("invalid_file", `model: ${place} has no config.json. Give the whole folder, as it lies on the hub.`);
  return { weights, small: small.filter((file) => file !== undefined) };
}

async function weightsOf<F>({ place, find, text }: Folder<F>): Promise<F[]> {
  const whole = await find(WEIGHTS);
  if (whole !== undefined) return [whole];
  const index = await find(INDEX);
  if (index === undefined) {
    throw new EmbergramError("unsupported_model", `model: ${place} has neither ${WEIGHTS} nor ${INDEX}. Convert its weights with transformers (save_pretrained), or give a GGUF.`);
  }
  const names = shards(place, await text(index));
  const files = await Promise.all(names.map(find));
  const missing = names.filter((_, i) => files[i] === undefined);
  if (missing.length > 0) {
    throw new EmbergramError("invalid_file", `model: ${place} lacks ${missing.slice(0, 5).join(", ")} (${missing.length} of ${names.length} shards). Give all shards that ${INDEX} names.`);
  }
  return files.filter((file) => file !== undefined);
}

/** The names of the shards, as the index tells which tensor lies where. */
function shards(place: string, index: string): string[] {
  let map: unknown;
  try {
    map = (JSON.parse(index) as { weight_map?: unknown } | null)?.weight_map;
  } catch {
    // It has no weight_map then.
  }
  const names = [...new Set(Object.values(Object(map) as object))].sort() as unknown[];
  // A shard lies in the folder itself.
  const isName = (name: unknown): name is string => typeof name === "string" && /^[^/\\]+\.safetensors$/i.test(name);
  if (names.length > 0 && names.every(isName)) return names;
  throw new EmbergramError("invalid_file", `model: ${INDEX} of ${place} is no index: it should map tensors to .safetensors files under weight_map. Download it again.`);
}
