/** Whether this is Firefox, in a page or in a worker. */
export const isFirefox = () => /\bFirefox\//.test(globalThis.navigator?.userAgent ?? "");

/** Resolves in a millisecond, or as soon as timers may. */
export const soon = () => new Promise((resolve) => setTimeout(resolve, 1));
