// OpenAI's client, the AI SDK, LangChain and OpenAI's agents over `llm.fetch`, their real packages; in a page see tests/e2e.
import { afterAll, beforeAll, expect, test } from "vitest";
import { clients } from "../support/clients.mjs";
import { Llm, MODEL } from "./harness.mjs";

let llm;
let text;
let embedding;
beforeAll(async () => {
  llm = await Llm.load({ model: MODEL, max_model_len: 1024 });
  const [{ outputs }] = await llm.chat([{ role: "user", content: "Say hello." }], { max_tokens: 12, temperature: 0 });
  text = outputs[0].text;
  [{ outputs: { embedding } }] = await llm.embed("Say hello.");
}, 120_000);
afterAll(() => llm?.unload());

test.each(Object.keys(clients))("%s", async (name) => {
  const got = await clients[name](llm);
  expect(text).not.toBe("");
  expect(got).toMatchObject({ whole: text, streamed: text });
  if (name !== "agents") {
    for (const made of [got.object, got.call]) {
      expect(made).toEqual({ greeting: expect.stringMatching(/^(hello|hi)$/), loud: expect.any(Boolean) });
    }
  }
  if (name !== "agents") expect(got.embedding).toEqual([...embedding]);
  // Each client wraps the server's words in its own.
  expect(got.refused.message).toContain("temperature must be in [0, 2], got 5.0.");
  if (name === "openai") {
    expect(got.models).toEqual([llm.model.name]);
    expect(got.completion).not.toBe("");
    expect(got.refused).toMatchObject({ status: 400 });
    expect(got.unknown).toMatchObject({ status: 404, message: expect.stringContaining("does not exist") });
  }
  if (name === "ai") expect(got).toMatchObject({ finishReason: "length", tokens: 12 });
  if (got.aborted) {
    expect(got.aborted.text).not.toBe("");
    expect(got.aborted.text.length).toBeLessThan(400);
  }
  // Nothing goes on behind an abort.
  for (let busy = true; busy; ) busy = (await llm.getMetrics()).find((m) => m.name === "vllm:num_requests_running").value > 0;
});
