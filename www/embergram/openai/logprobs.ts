/** Log-probabilities in OpenAI's two shapes, which name tokens by their texts. */
import type { TokenLogprob } from "../types.js";
import type { ChatCompletionLogprobs, CompletionLogprobs, TopLogprob } from "./types.js";

/** The texts of tokens, each by itself, asked for once. */
export class TokenTexts {
  readonly #known = new Map<number, string>();

  constructor(readonly ask: (ids: readonly number[]) => Promise<string[]>) {}

  /** Learns the texts of the tokens that these name. */
  async learn(logprobs: readonly (readonly TokenLogprob[])[] | null): Promise<void> {
    const ids = [...new Set(logprobs?.flat().map(({ token_id }) => token_id))].filter((id) => !this.#known.has(id));
    if (ids.length === 0) return;
    const texts = await this.ask(ids);
    ids.forEach((id, i) => this.#known.set(id, texts[i]!));
  }

  /** The text of a token that was learnt. */
  of(id: number): string {
    return this.#known.get(id)!;
  }
}

const utf8 = new TextEncoder();

/** The engine's lists start with the chosen token; the most likely ones follow by rank, the chosen one not repeated. */
export function chatLogprobs(
  logprobs: readonly (readonly TokenLogprob[])[] | null,
  texts: TokenTexts,
  top: number,
): ChatCompletionLogprobs | null {
  if (!logprobs) return null;
  const shape = ({ token_id, logprob }: TokenLogprob): TopLogprob => {
    const token = texts.of(token_id);
    return { token, bytes: token.includes("\u{fffd}") ? null : [...utf8.encode(token)], logprob };
  };
  const content = logprobs.map((candidates) => ({
    ...shape(candidates[0]!),
    top_logprobs: [...candidates].sort((a, b) => a.rank - b.rank).slice(0, top).map(shape),
  }));
  return { content, refusal: null };
}

/** `offset`: summed lengths of the tokens before these. */
export function completionLogprobs(
  logprobs: readonly (readonly TokenLogprob[])[] | null,
  texts: TokenTexts,
  offset = 0,
): CompletionLogprobs | null {
  if (!logprobs) return null;
  const result: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
  for (const candidates of logprobs) {
    const token = texts.of(candidates[0]!.token_id);
    result.tokens.push(token);
    result.token_logprobs.push(candidates[0]!.logprob);
    // Tokens of the same text, parts of characters, share a key: the likeliest of them is kept.
    const byRank = [...candidates].sort((a, b) => b.rank - a.rank);
    result.top_logprobs.push(Object.fromEntries(byRank.map(({ token_id, logprob }) => [texts.of(token_id), logprob])));
    result.text_offset.push(offset);
    offset += token.length;
  }
  return result;
}
