const isFirefox = /\bFirefox\//.test(globalThis.navigator?.userAgent ?? "");

/** Resolves in a millisecond, or as soon as timers may; nothing where this is not Firefox. */
export const soonInFirefox = () => (isFirefox ? new Promise((resolve) => setTimeout(resolve, 1)) : undefined);
