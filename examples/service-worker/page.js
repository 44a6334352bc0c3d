// `?model=` names another model: an address, or one on Hugging Face.
const model = new URLSearchParams(location.search).get("model") ?? "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M";
await navigator.serviceWorker.register(`sw.js?model=${encodeURIComponent(model)}`, { type: "module" });
// The worker takes this page over (`clients.claim`); from then on it sees the page's requests.
if (!navigator.serviceWorker.controller) {
  await new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
}

const output = document.querySelector("#answer");
document.querySelector("#form").addEventListener("submit", async (event) => {
  event.preventDefault();
  output.textContent = "…";
  const { data } = await (await fetch("/v1/models")).json();
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: data?.[0].id, messages: [{ role: "user", content: document.querySelector("#question").value }], max_tokens: 100,
    }),
  });
  const body = await response.json();
  output.textContent = response.ok ? body.choices[0].message.content : body.error.message;
  output.dataset.status = response.status;
});
document.body.dataset.ready = "";
