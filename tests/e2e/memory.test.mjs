// The wasm heap stays small whatever the model's size: a model in the shape of Llama 3.2 1B, 770 MB, of random weights.
import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { python, syntheticModel } from "../../scripts/setup.mjs";
import { open } from "./harness.mjs";

const MiB = 2 ** 20;

// Minutes on two cores, and a gigabyte of disk.
describe.runIf(process.env.EMBERGRAM_FULL === "1")("the engine's heap", () => test.each(["cpu", "webgpu"])("its peak while a 1B model loads and steps on %s", async (backend) => {
  const path = syntheticModel("llama-1b.gguf", ["--shape", "llama-1b"]);
  const script = "import sys, gguf; print(gguf.GGUFReader(sys.argv[1]).data_offset)";
  const header = spawnSync("python3", ["-c", script, path], { env: python(), encoding: "utf8" });
  const tokenizer = Number(header.stdout);
  expect(tokenizer, header.stderr).toBeGreaterThan(MiB);
  const browser = await open({ places: { "/1b.gguf": path } });
  try {
    const { token_ids, heap } = await browser.page.evaluate(async (backend) => {
      const options = { backend, cache: false, max_model_len: 64, max_num_seqs: 1, max_num_batched_tokens: 8 };
      const llm = await globalThis.embergram.Llm.load({ model: "/1b.gguf", ...options });
      const [{ outputs: [{ token_ids }] }] = await llm.generate([1, 2, 3, 4], { max_tokens: 3, temperature: 0 });
      // A wasm memory never shrinks: its size is its peak.
      const heap = (await llm.getMetrics()).find((metric) => metric.name === "embergram:wasm_heap_bytes").value;
      return { token_ids, heap };
    }, backend);
    const bound = 128 * MiB + 3 * tokenizer;
    const show = (bytes) => `${(bytes / MiB).toFixed(1)} MiB`;
    console.log(`heap ${show(heap)}, metadata ${show(tokenizer)}, bound ${show(bound)}`);
    expect(token_ids).toHaveLength(3);
    expect(heap).toBeLessThan(bound);
  } finally {
    await browser.close();
  }
}));
