/** Starting a worker whose script is no file of the page's own origin. */

/** Starts a module worker from its text. */
export function startText(text: string, name = "embergram"): Worker {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  // The address stays good: a worker starts its threads by it, whenever it loads a model.
  return new Worker(url, { type: "module", name });
}

/** Starts a module worker from an address; one of another origin through a line of script of this one. */
export function startAt(url: URL): Worker {
  if (url.origin !== globalThis.location?.origin) return startText(`import ${JSON.stringify(url.href)};`);
  return new Worker(url, { type: "module", name: "embergram" });
}
