/** Calls `f`; gives what it threw, a trap of WebAssembly among it, or `undefined`. */
export function attempt(f) {
  try {
    f();
  } catch (error) {
    return error ?? new Error("something was thrown");
  }
}
