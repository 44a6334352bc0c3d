// What vLLM's server answered (tests/golden/vllm_server.json), and how answers are compared with it.
import { expect } from "vitest";

/** What is not compared, and why; docs/openai.md has it as a table. Of most, that it is there and of its type still is. */
export const LEFT_OUT = [
  ["id", "`id`, of answers and permissions", "random"],
  ["created", "`created`", "a time"],
  ["system_fingerprint", "`system_fingerprint`", "of vLLM's version and configuration; here `embergram-` and the version"],
  ["owned_by", "`owned_by`, `root` of a model, `version`", "vLLM names itself and the folder that it serves"],
  ["root"],
  ["version"],
  ["prompt_tokens_details", "`usage.prompt_tokens_details`", "vLLM tells it with `--enable-prompt-tokens-details`; here it is always told, but in a stream's last chunk with the other usage"],
  ["metrics", "`metrics`", "vLLM tells it when its server is started so; here whenever there is speculation"],
  ["required", "`usage.completion_tokens` and `total_tokens` where a call was required", "vLLM has the model write a JSON list, here it writes a call as its family does; the calls are the same"],
];

/** Differences between answers to a request that requires a call. */
export const ofRequired = (differences) => differences.filter((line) => !/^\.usage\.(completion|total)_tokens: /.test(line));

/** What a name is called where it is left out. */
const names = new Set(LEFT_OUT.map(([name]) => name));
/** vLLM has these only when it is told to; then null, or not there in a stream. */
const OPTIONAL = new Set(["prompt_tokens_details", "metrics"]);

/** What differs, as paths. Log-probabilities are compared to 1e-3. */
export function differences(ours, theirs, path = "") {
  if (typeof theirs === "number" && typeof ours === "number") {
    const least = /logprob/.test(path) ? 1e-3 : 0;
    return Math.abs(ours - theirs) <= least ? [] : [`${path}: ${ours}, not ${theirs}`];
  }
  const plain = (value) => typeof value !== "object" || value === null;
  if (plain(ours) || plain(theirs) || Array.isArray(ours) !== Array.isArray(theirs)) {
    return ours === theirs ? [] : [`${path}: ${JSON.stringify(ours)}, not ${JSON.stringify(theirs)}`];
  }
  const keys = (object) => Object.keys(object).filter((key) => !OPTIONAL.has(key));
  const found = [];
  if (keys(ours).join() !== keys(theirs).join()) found.push(`${path}: fields ${keys(ours)}, not ${keys(theirs)}`);
  for (const key of keys(theirs)) {
    const at = `${path}.${key}`;
    if (!names.has(key)) found.push(...differences(ours[key], theirs[key], at));
    else if (typeof ours[key] !== typeof theirs[key]) found.push(`${at}: ${ours[key]}, not of the type of ${theirs[key]}`);
  }
  return found;
}

/** The events of a stream: JSON, but for the end. */
export function events(body) {
  const parts = body.split("\n\n");
  expect(parts.pop()).toBe("");
  return parts.map((part) => {
    expect(part).toMatch(/^data: [^\n]+$/);
    const data = part.slice("data: ".length);
    return data === "[DONE]" ? data : JSON.parse(data);
  });
}

/** Samples of an exposition that vLLM calls its own, by name, each with its labels' names. */
export function samples(text) {
  const found = new Map();
  for (const [, name, labels] of text.matchAll(/^(vllm:\w+)\{([^}]*)\} /gm)) {
    found.set(name, [...labels.matchAll(/(\w+)="/g)].map(([, label]) => label).sort());
  }
  return found;
}
