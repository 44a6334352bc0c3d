/** Log-probabilities in OpenAI's two shapes, which name tokens by their texts. */
import type { TokenLogprob } from "../types.js";
import type { ChatCompletionLogprobs, CompletionLogprobs, PromptLogprobs, TopLogprob } from "./types.js";

/** What the shapes need of a tokenizer. */
export interface Texts {
  /** The text of each token by itself. */
  tokenTexts(ids: readonly number[]): Promise<string[]>;
  /** The text of tokens together. */
  detokenize(ids: readonly number[]): Promise<string>;
}

/** The least that is told: JSON has no infinity. */
const LEAST = -9999;
/** Tokens before one that may hold the beginning of its character. */
const CONTEXT = 4;
const utf8 = new TextEncoder();
const isPart = (text: string) => text.endsWith("\u{fffd}");

/** Names the tokens of one choice, in their order: parts of a character are named by what came before. */
export class TokenNames {
  /** The last tokens that were chosen. */
  readonly #chosen: number[] = [];
  readonly #known: Map<number, string>;

  /** @param known texts of tokens, which several choices may share */
  constructor(readonly texts: Texts, readonly areIds: boolean, known = new Map<number, string>()) {
    this.#known = known;
  }

  /** The names of a token and its rivals. The chosen one is the first. */
  async of(ids: readonly number[]): Promise<string[]> {
    const names = this.areIds ? ids.map((id) => `token_id:${id}`) : await this.#texts(ids);
    this.#chosen.push(ids[0]!);
    return names;
  }

  async #texts(ids: readonly number[]): Promise<string[]> {
    const unknown = ids.filter((id) => !this.#known.has(id));
    if (unknown.length > 0) {
      const texts = await this.texts.tokenTexts(unknown);
      unknown.forEach((id, i) => this.#known.set(id, texts[i]!));
    }
    return Promise.all(ids.map((id) => (isPart(this.#known.get(id)!) ? this.#completed(id) : this.#known.get(id)!)));
  }

  /** What a part of a character completes, as vLLM's `_correct_decoded_token`; nothing where it does not complete one. */
  async #completed(id: number): Promise<string> {
    for (let n = 1; n <= Math.min(CONTEXT, this.#chosen.length); n++) {
      const context = this.#chosen.slice(-n);
      const whole = await this.texts.detokenize([...context, id]);
      if (isPart(whole)) continue;
      const alone = await this.texts.tokenTexts(context);
      let clean = n;
      while (clean > 0 && isPart(alone[clean - 1]!)) clean -= 1;
      const before = clean > 0 ? await this.texts.detokenize(context.slice(0, clean)) : "";
      let same = 0;
      while (same < before.length && before[same] === whole[same]) same += 1;
      return whole.slice(same);
    }
    return "";
  }
}

/** The engine's lists start with the chosen token; the most likely ones follow by rank, the chosen one not repeated. */
export async function chatLogprobs(
  logprobs: readonly (readonly TokenLogprob[])[] | null,
  names: TokenNames,
  top: number,
): Promise<Omit<ChatCompletionLogprobs, "refusal"> | null> {
  if (!logprobs) return null;
  const content = [];
  for (const candidates of logprobs) {
    const tokens = await names.of(candidates.map(({ token_id }) => token_id));
    const shapes = candidates.map(({ logprob }, i): TopLogprob => ({
      token: tokens[i]!, logprob: Math.max(logprob, LEAST), bytes: [...utf8.encode(tokens[i])],
    }));
    content.push({ ...shapes[0]!, top_logprobs: shapes.slice(0, top) });
  }
  return { content };
}

/**
 * @param offset the summed lengths of the tokens before these, in characters
 * @param first the token of which nothing is known: a prompt's first
 */
export async function completionLogprobs(
  logprobs: readonly (readonly TokenLogprob[] | null)[] | null,
  names: TokenNames,
  offset = 0,
  first?: number,
): Promise<CompletionLogprobs | null> {
  if (!logprobs) return null;
  const result = {
    text_offset: [] as number[], token_logprobs: [] as (number | null)[], tokens: [] as string[], top_logprobs: [] as (Record<string, number> | null)[],
  };
  for (const candidates of logprobs) {
    if (!candidates) {
      const [token] = await names.of([first!]);
      result.tokens.push(token!);
      result.token_logprobs.push(null);
      result.top_logprobs.push(null);
      result.text_offset.push(offset);
      offset += [...token!].length;
      continue;
    }
    const tokens = await names.of(candidates.map(({ token_id }) => token_id));
    const values = candidates.map(({ logprob }) => Math.max(logprob, LEAST));
    result.tokens.push(tokens[0]!);
    result.token_logprobs.push(values[0]!);
    // Tokens of the same text share a key.
    result.top_logprobs.push(Object.fromEntries(tokens.map((token, i) => [token, values[i]!])));
    result.text_offset.push(offset);
    offset += [...tokens[0]!].length;
  }
  return result as CompletionLogprobs;
}

/** How likely a prompt's tokens were, as vLLM tells it. */
export async function promptLogprobs(
  logprobs: readonly (readonly TokenLogprob[] | null)[] | null,
  ids: readonly number[],
  names: TokenNames,
): Promise<PromptLogprobs | null> {
  if (!logprobs) return null;
  const result: PromptLogprobs = [];
  for (const [i, candidates] of logprobs.entries()) {
    const tokens = await names.of(candidates?.map(({ token_id }) => token_id) ?? [ids[i]!]);
    const entries = candidates?.map(({ token_id, logprob, rank }, j) => [token_id, { logprob: Math.max(logprob, LEAST), rank, decoded_token: tokens[j]! }] as const);
    result.push(entries ? Object.fromEntries(entries) : null);
  }
  return result;
}
