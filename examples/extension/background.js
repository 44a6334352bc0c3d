// The model runs in the extension's background; its pages ask through a port, and get the answer piece by piece.
import { Llm } from "embergram/here";

let loaded;
/** One model at a time. Browsers end an idle background, and its model with it; the download is kept. */
function load(model) {
  if (loaded?.model !== model) {
    const before = loaded?.loading;
    const loading = Promise.resolve(before).then((llm) => llm?.unload(), () => {}).then(() => Llm.load({ model }));
    const entry = { model, loading };
    loaded = entry;
    loading.catch(() => {
      if (loaded === entry) loaded = undefined;
    });
  }
  return loaded.loading;
}

chrome.runtime.onConnect.addListener((port) => {
  const abort = new AbortController();
  port.onDisconnect.addListener(() => abort.abort());
  port.onMessage.addListener(async ({ model, messages }) => {
    try {
      const llm = await load(model);
      for await (const { text } of llm.chatStream(messages, { max_tokens: 100 }, { signal: abort.signal })) port.postMessage({ text });
      port.postMessage({ done: true });
    } catch (error) {
      if (!abort.signal.aborted) port.postMessage({ error: `${error.code}: ${error.message}` });
    }
  });
});
