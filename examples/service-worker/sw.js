// OpenAI's API under this origin's own /v1/: any script of its pages may `fetch` it, and no request leaves the machine.
import { Llm } from "embergram/here";

const model = new URL(location.href).searchParams.get("model");
let loading;
/** Loads at the first call, and again after a load that failed. Browsers end an idle service worker, and its model with it. */
function load() {
  loading ??= Llm.load({ model }).catch((error) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (origin === location.origin && pathname.startsWith("/v1/")) event.respondWith(answer(event.request));
});

async function answer(request) {
  try {
    return await (await load()).fetch(request);
  } catch (error) {
    return Response.json({ error: { message: `${error.code}: ${error.message}`, type: "server_error", code: 503 } }, { status: 503 });
  }
}
