// A tiny model as a Hugging Face folder: one of tests/golden/models, with a tokenizer of its vocabulary's size.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../../scripts/setup.mjs";

/**
 * Makes such a folder in a place of its own, which goes when the process ends; returns its path.
 * @param {string} model which of the tiny models; also what the folder is called
 * @param {{shards?: number}} [options]
 */
export function hfFolder(model = "llama3", { shards = 1 } = {}) {
  const place = mkdtempSync(join(tmpdir(), "embergram-folder-"));
  process.on("exit", () => rmSync(place, { recursive: true, force: true }));
  const folder = join(place, model);
  mkdirSync(join(folder, "original"), { recursive: true });
  const golden = join(root, "tests/golden/models", model);
  for (const file of ["config.json", "generation_config.json"]) cpSync(join(golden, file), join(folder, file));
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) cpSync(join(root, "tests/fixtures/folder", file), join(folder, file));
  // What a repository holds besides, of another format, and of the same name.
  writeFileSync(join(folder, "original/config.json"), "{}");
  const safetensors = join(golden, "model.safetensors");
  if (shards === 1) cpSync(safetensors, join(folder, "model.safetensors"));
  else writeShards(folder, readFileSync(safetensors), shards);
  return folder;
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
