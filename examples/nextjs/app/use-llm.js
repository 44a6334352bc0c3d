"use client";

import { Llm } from "embergram";
import { useEffect, useState } from "react";

/** Loads a model, and unloads it when the component goes. Gives `{ llm, status }`. */
export function useLlm(model) {
  const [state, setState] = useState({ status: "loading" });
  useEffect(() => {
    const abort = new AbortController();
    setState({ status: "loading" });
    const loading = Llm.load({
      model,
      signal: abort.signal,
      onProgress: ({ phase, loaded, total }) => {
        if (!abort.signal.aborted) setState({ status: total ? `${phase} ${Math.round((100 * loaded) / total)} %` : phase });
      },
    });
    loading.then(
      (llm) => !abort.signal.aborted && setState({ llm, status: `${llm.model.name} on ${llm.model.adapter.name}` }),
      (error) => !abort.signal.aborted && setState({ status: `${error.code}: ${error.message}` }),
    );
    return () => {
      abort.abort();
      loading.then((llm) => llm.unload(), () => {});
    };
  }, [model]);
  return state;
}
