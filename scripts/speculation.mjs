// Speculation as the command line says it.

/**
 * The `speculative_config` of a number of draft tokens, or "auto", and of a range of n-grams such as "2-4"; `null` for 0.
 * @param {number | string} depth
 */
export function ngram(depth, lookup = "2-4") {
  if (Number(depth) === 0) return null;
  const [min, max = min] = lookup.split("-").map(Number);
  const k = depth === "auto" ? depth : Number(depth);
  return { method: "ngram", num_speculative_tokens: k, prompt_lookup_min: min, prompt_lookup_max: max };
}
