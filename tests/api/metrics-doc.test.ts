// docs/metrics.md names every metric there is, with its type, and none that is not.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const doc = read("docs/metrics.md");
const documented = new Map([...doc.matchAll(/^\| `((?:vllm|embergram):\w+)` \| (\w+) \|/gm)].map(([, name, type]) => [name!, type!]));

test("the names are those of the engine's catalogue", () => {
  const catalog = new Set(read("crate/src/metrics/catalog.rs").match(/(?<=")(?:vllm|embergram):\w+(?=")/g));
  expect([...documented.keys()].sort()).toEqual([...catalog].sort());
  // Each once: a second row would hide from the map.
  expect(doc.match(/^\| `(?:vllm|embergram):/gm)).toHaveLength(catalog.size);
});

test("names and types are those that vLLM reported", () => {
  const { runs } = JSON.parse(read("tests/golden/vllm_golden.json"));
  const recorded = new Map<string, string>();
  for (const { name, type } of runs["5"].metrics) recorded.set(name, type.toLowerCase());
  // vLLM has it with VLLM_COMPUTE_NANS_IN_LOGITS, which the recording did without.
  recorded.set("vllm:corrupted_requests", "counter");
  const ours = [...documented].filter(([name]) => name.startsWith("vllm:"));
  expect(new Map(ours.sort())).toEqual(new Map([...recorded].sort()));
});

test("every value of a label that vLLM reported is explained", () => {
  const { runs } = JSON.parse(read("tests/golden/vllm_golden.json"));
  for (const { name, labels } of runs["5"].metrics) {
    const { model_name: _, engine: __, ...own } = labels as Record<string, string>;
    if (name === "vllm:cache_config_info") continue;
    for (const [key, value] of Object.entries(own)) {
      const row = doc.split("\n").find((line) => line.startsWith(`| \`${name}\` |`))!;
      expect(row, `${name}: ${key}`).toContain(`\`${key}\``);
      if (name !== "vllm:admission_rejections") expect(row, `${name}: ${key}`).toContain(`\`${value}\``);
    }
  }
});
