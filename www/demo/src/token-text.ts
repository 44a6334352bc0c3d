/** Which part of a streamed text came from which token. */

/** In place of a draft position: the model sampled the token, or a grammar left no other. */
export const SAMPLED = -1;
export const FORCED = -2;

/** A stretch of text and the draft position of the token it came from, or how else that came about. */
export interface Span {
  text: string;
  position: number;
}

interface Token {
  text: string;
  position: number;
}

/** Stands for bytes that are no whole character by themselves. */
const BROKEN = "\uFFFD";

/**
 * Deals streamed text out to its tokens. A delta's text holds whole characters only and may lag behind its tokens: bytes
 * of a character come apart, a stop string's beginning is held back, special tokens give no text.
 */
export class TokenText {
  #tokens: Token[] = [];
  #text = "";

  /** Whether everything that came is dealt out. */
  get settled(): boolean {
    return this.#text === "" && this.#tokens.length === 0;
  }

  /** Takes what a step added: its text, and its tokens with the text each has by itself. Returns what is settled. */
  push(text: string, tokens: readonly Token[]): Span[] {
    this.#text += text;
    this.#tokens.push(...tokens);
    const spans: Span[] = [];
    while (this.#text !== "" && this.#tokens.length > 0) {
      const taken = this.#take();
      if (!taken) break;
      spans.push(taken);
    }
    return spans.filter((span) => span.text !== "");
  }

  /** What is left when the stream has ended. */
  end(): Span[] {
    const position = this.#tokens[0]?.position ?? SAMPLED;
    const rest = this.#text;
    this.#text = "";
    this.#tokens = [];
    return rest === "" ? [] : [{ text: rest, position }];
  }

  /** The first token's text; undefined while it is still to come. */
  #take(): Span | undefined {
    const { text, position } = this.#tokens[0]!;
    if (!text.includes(BROKEN)) {
      if (this.#text.startsWith(text)) return this.#cut(1, text.length, position);
      if (text.startsWith(this.#text)) return undefined;
      // Not what the token says by itself: all of it is the token's, rather than some of it the wrong one's.
      return this.#cut(1, this.#text.length, position);
    }
    // Tokens that share a character: up to where the next whole token's text begins.
    const next = this.#tokens.findIndex((token) => token.text !== "" && !token.text.includes(BROKEN));
    const end = next < 0 ? this.#text.length : this.#text.indexOf(this.#tokens[next]!.text, 1);
    if (end < 0) return undefined;
    return this.#cut(next < 0 ? this.#tokens.length : next, end, position);
  }

  #cut(tokens: number, length: number, position: number): Span {
    const text = this.#text.slice(0, length);
    this.#text = this.#text.slice(length);
    this.#tokens.splice(0, tokens);
    return { text, position };
  }
}
