// examples/grafana: every metric and label that the dashboard and its queries name is what `embergram serve` answers.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CLI, start } from "./harness.mjs";
import { root } from "../../scripts/setup.mjs";

const dashboard = JSON.parse(readFileSync(join(root, "examples/grafana/dashboards/embergram.json"), "utf8"));
const queries = dashboard.panels.flatMap(({ targets }) => targets);

test("the dashboard asks for what there is", async () => {
  const child = start([CLI, "serve", process.env.EMBERGRAM_TINY_MODEL, "--port", "0", "--max-model-len", "128", "--speculate", "3"]);
  try {
    const line = await new Promise((done) => child.stdout.setEncoding("utf8").once("data", done));
    const origin = /http:\/\/127\.0\.0\.1:\d+/.exec(line)[0];
    const body = JSON.stringify({ prompt: "the light of the world, the light of the", max_tokens: 32, temperature: 0, ignore_eos: true });
    await (await fetch(`${origin}/v1/completions`, { method: "POST", headers: { "content-type": "application/json" }, body })).json();
    const response = await fetch(`${origin}/metrics`);
    expect(response.headers.get("content-type")).toContain("text/plain");
    /** The label names of each sample's name. */
    const samples = new Map();
    for (const [, name, labels = ""] of (await response.text()).matchAll(/^([a-z_:]+)(?:\{(.*)\})? /gm)) {
      const names = [...labels.matchAll(/(\w+)="/g)].map(([, label]) => label);
      samples.set(name, new Set([...(samples.get(name) ?? []), ...names]));
    }
    expect(queries.length).toBeGreaterThan(12);
    for (const { expr, legendFormat } of queries) {
      const metrics = [...expr.matchAll(/(?:vllm|embergram):\w+/g)].map(([name]) => name);
      expect(metrics, expr).not.toEqual([]);
      for (const name of metrics) expect([...samples.keys()], expr).toContain(name);
      const grouped = [...expr.matchAll(/by \((\w+)\)/g)].map(([, label]) => label);
      const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label);
      for (const label of [...grouped, ...shown]) expect([...samples.get(metrics[0])], expr).toContain(label);
    }
  } finally {
    child.kill();
  }
});
