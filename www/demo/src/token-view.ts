/** Streamed text on the page, each token tinted by its place in the draft it came from. */
import type { Delta, Llm } from "embergram";
import { make } from "./dom.js";
import { FORCED, SAMPLED, TokenText, type Span } from "./token-text.js";

/** How many draft positions have a tint of their own; later ones share the last. */
export const TINTS = 8;

/** The texts of single tokens. */
export class Vocabulary {
  readonly #llm: Llm;
  readonly #known = new Map<number, Promise<string>>();
  #anchor: Promise<{ id: number; text: string }> | undefined;

  constructor(llm: Llm) {
    this.#llm = llm;
  }

  text(id: number): Promise<string> {
    let text = this.#known.get(id);
    if (!text) this.#known.set(id, (text = this.#ask(id)));
    return text;
  }

  /** Some tokenizers drop a space at the very beginning: each token is decoded behind another. */
  async #ask(id: number): Promise<string> {
    this.#anchor ??= this.#findAnchor();
    const anchor = await this.#anchor;
    return (await this.#llm.detokenize([anchor.id, id])).slice(anchor.text.length);
  }

  async #findAnchor(): Promise<{ id: number; text: string }> {
    const id = (await this.#llm.tokenize("x")).at(-1)!;
    return { id, text: await this.#llm.detokenize([id]) };
  }
}

export class TokenView {
  /** All text so far. */
  text = "";
  readonly #vocabulary: Vocabulary;
  readonly #settled: HTMLElement;
  readonly #pending: Text;
  readonly #tokens = new TokenText();
  #drawn = 0;
  #queue: Promise<void> = Promise.resolve();
  #open = 0;

  /** Appends to `parent`. */
  constructor(parent: HTMLElement, vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
    this.#settled = make("span");
    this.#pending = document.createTextNode("");
    parent.append(this.#settled, this.#pending);
  }

  /** Shows a delta at once; tints it when it is known which token gave which part of it. */
  push(delta: Delta): void {
    this.text += delta.text;
    const alone = delta.token_ids.length === 1 && delta.text !== "" && this.#open === 0 && this.#tokens.settled;
    if (alone) {
      return this.#draw([{ text: delta.text, position: positionOf(delta, 0) }]);
    }
    this.#open += 1;
    this.#showPending();
    const texts = Promise.all(delta.token_ids.map((id) => this.#vocabulary.text(id)));
    this.#queue = this.#queue.then(async () => {
      const tokens = (await texts).map((text, i) => ({ text, position: positionOf(delta, i) }));
      this.#open -= 1;
      this.#draw(this.#tokens.push(delta.text, tokens));
    });
    this.#queue.catch(() => {});
  }

  /** The stream has ended. Resolves when everything is tinted. */
  async end(): Promise<void> {
    // Where a token's text could not be had, the rest stays as it came.
    await this.#queue.then(() => this.#draw(this.#tokens.end()), () => {});
  }

  #draw(spans: readonly Span[]): void {
    for (const { text, position } of spans) {
      this.#drawn += text.length;
      this.#settled.append(position === SAMPLED ? text : verified(text, position));
    }
    this.#showPending();
  }

  #showPending(): void {
    this.#pending.data = this.text.slice(this.#drawn);
  }
}

function positionOf({ draft_positions, forced }: Delta, i: number): number {
  return forced[i] ? FORCED : (draft_positions[i] ?? SAMPLED);
}

/** A token that was proposed, and held. */
function verified(text: string, position: number): HTMLElement {
  if (position === FORCED) return make("span", { className: "forced", title: "Forced by the schema" }, text);
  const span = make("span", { className: `draft tint-${Math.min(position, TINTS - 1)}`, title: `Draft position ${position}` }, text);
  span.dataset["position"] = String(position);
  return span;
}
