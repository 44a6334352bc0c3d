// A tiny model as a Hugging Face folder: one of tests/golden/models, with a tokenizer of its vocabulary's size.
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cache, root } from "../../scripts/setup.mjs";

const FILES = ["config.json", "generation_config.json", "model.safetensors"];
const TOKENIZER = ["tokenizer.json", "tokenizer_config.json"];

/**
 * The path of such a folder, in the cache and made where it is not there. Nothing may write into it: tests share it.
 * @param {string} model which of the tiny models; also what the folder is called
 * @param {{shards?: number}} [options]
 */
export function hfFolder(model = "llama3", { shards = 1 } = {}) {
  const golden = join(root, "tests/golden/models", model);
  const files = [...FILES.map((name) => join(golden, name)), ...TOKENIZER.map((name) => join(root, "tests/fixtures/folder", name)), fileURLToPath(import.meta.url)];
  const hash = createHash("sha256");
  for (const file of files) hash.update(readFileSync(file));
  const place = join(cache, "folders", `${shards}-${hash.digest("hex").slice(0, 16)}`);
  if (existsSync(place)) return join(place, model);
  const made = `${place}.${process.pid}`;
  const folder = join(made, model);
  mkdirSync(join(folder, "original"), { recursive: true });
  for (const file of files.slice(0, -1)) cpSync(file, join(folder, basename(file)));
  // What a repository holds besides, of another format, and of the same name.
  writeFileSync(join(folder, "original/config.json"), "{}");
  if (shards > 1) {
    rmSync(join(folder, "model.safetensors"));
    writeShards(folder, readFileSync(join(golden, "model.safetensors")), shards);
  }
  try {
    renameSync(made, place);
  } catch (error) {
    // Another test was first.
    if (!existsSync(place)) throw error;
    rmSync(made, { recursive: true });
  }
  return join(place, model);
}

/** The tensors of a safetensors file in so many shards, in turn, and their index. */
function writeShards(folder, file, count) {
  const start = 8 + Number(file.readBigUInt64LE(0));
  const { __metadata__, ...tensors } = JSON.parse(file.subarray(8, start).toString());
  const shards = Array.from({ length: count }, (_, i) => ({
    name: `model-${String(i + 1).padStart(5, "0")}-of-${String(count).padStart(5, "0")}.safetensors`, header: {}, data: [], length: 0,
  }));
  const weight_map = {};
  Object.entries(tensors).forEach(([name, tensor], i) => {
    const [from, to] = tensor.data_offsets;
    const shard = shards[i % count];
    shard.header[name] = { ...tensor, data_offsets: [shard.length, (shard.length += to - from)] };
    shard.data.push(file.subarray(start + from, start + to));
    weight_map[name] = shard.name;
  });
  for (const { name, header, data } of shards) {
    const json = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    writeFileSync(join(folder, name), Buffer.concat([length, json, ...data]));
  }
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ metadata: {}, weight_map }));
}
