/** What a model thinks before it answers, in `<think>` and `</think>`: told apart from the answer. */

const BEGIN = "<think>";
const END = "</think>";

/** Whether a template's prompt ends inside a thought, so that the answer begins there. */
export function beginsInThought(template: string | null | undefined): boolean {
  const at = template?.lastIndexOf("add_generation_prompt") ?? -1;
  const tail = at < 0 ? "" : template!.slice(at);
  return tail.includes(BEGIN) && !tail.includes(END);
}

/** Splits text into thought and answer, however it is cut into pieces. */
export class ThoughtSplitter {
  #state: "before" | "inside" | "after";
  #rest = "";

  /** @param inside whether the text begins inside a thought */
  constructor(inside: boolean) {
    this.#state = inside ? "inside" : "before";
  }

  push(text: string, whole: boolean): { thought: string; answer: string } {
    this.#rest += text;
    let thought = "";
    if (this.#state !== "after") {
      const trimmed = this.#rest.trimStart();
      if (trimmed.startsWith(BEGIN)) {
        this.#state = "inside";
        this.#rest = trimmed.slice(BEGIN.length);
      } else if (!BEGIN.startsWith(trimmed) || whole) {
        if (this.#state === "before") this.#state = "after";
      } else if (trimmed !== "" || this.#state === "before") {
        // It may still become the beginning.
        return { thought, answer: "" };
      }
    }
    if (this.#state === "inside") {
      const end = this.#rest.indexOf(END);
      if (end < 0) {
        const keep = whole ? 0 : held(this.#rest);
        thought = this.#rest.slice(0, this.#rest.length - keep);
        this.#rest = this.#rest.slice(thought.length);
        return { thought, answer: "" };
      }
      thought = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + END.length).trimStart();
      this.#state = "after";
      this.#trims = this.#rest === "";
    }
    if (this.#trims) {
      this.#rest = this.#rest.trimStart();
      if (this.#rest !== "") this.#trims = false;
    }
    const answer = this.#rest;
    this.#rest = "";
    return { thought, answer };
  }

  /** Whether only white space has come since the end of the thought. */
  #trims = false;
}

/** How much of the end of `text` may be the beginning of the end. */
function held(text: string): number {
  for (let length = Math.min(END.length - 1, text.length); length > 0; length--) if (text.endsWith(END.slice(0, length))) return length;
  return 0;
}
