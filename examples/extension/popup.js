// `?model=` names another model: an address, or one on Hugging Face.
const model = new URLSearchParams(location.search).get("model") ?? "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M";
const output = document.querySelector("#answer");

document.querySelector("#form").addEventListener("submit", (event) => {
  event.preventDefault();
  output.textContent = "";
  const port = chrome.runtime.connect();
  port.onMessage.addListener(({ text, error, done }) => {
    if (text) output.append(text);
    if (error) output.textContent = error;
    if (done || error) {
      output.dataset.state = error ? "failed" : "done";
      port.disconnect();
    }
  });
  port.postMessage({ model, messages: [{ role: "user", content: document.querySelector("#question").value }] });
});
