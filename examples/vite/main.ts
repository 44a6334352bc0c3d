import { EmbergramError, Llm, speculationStats } from "embergram";

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const file = element<HTMLInputElement>("file");
const prompt = element<HTMLTextAreaElement>("prompt");
const go = element<HTMLButtonElement>("go");
const stop = element<HTMLButtonElement>("stop");
const status = element("status");
const text = element<HTMLOutputElement>("text");

let llm: Llm | undefined;

file.addEventListener("change", async () => {
  const model = file.files?.[0];
  if (!model) return;
  go.disabled = true;
  await llm?.unload();
  llm = undefined;
  try {
    llm = await Llm.load({
      model,
      speculative_config: { method: "ngram", num_speculative_tokens: 5, prompt_lookup_max: 4, prompt_lookup_min: 2 },
      onProgress: ({ phase, loaded, total }) => {
        status.textContent = total ? `${phase} ${Math.round((100 * loaded) / total)} %` : phase;
      },
    });
    status.textContent = `${llm.model.name} on ${llm.model.adapter.name}`;
    go.disabled = false;
  } catch (error) {
    status.textContent = message(error);
  }
});

element<HTMLFormElement>("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!llm) return;
  const abort = new AbortController();
  stop.onclick = () => abort.abort();
  go.disabled = true;
  stop.disabled = false;
  text.textContent = "";
  try {
    for await (const delta of llm.stream(prompt.value, { max_tokens: 200 }, { signal: abort.signal })) text.textContent += delta.text;
    const { acceptance_rate, mean_acceptance_length } = speculationStats(await llm.getMetrics())!;
    status.textContent = `${(100 * acceptance_rate).toFixed(0)} % of the draft tokens accepted, ${mean_acceptance_length.toFixed(2)} tokens a draft`;
  } catch (error) {
    status.textContent = message(error);
  } finally {
    go.disabled = false;
    stop.disabled = true;
  }
});

function message(error: unknown): string {
  return error instanceof EmbergramError ? `${error.code}: ${error.message}` : String(error);
}
