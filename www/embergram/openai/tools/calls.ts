/** What parsers of tool calls have in common. */

/** A function that a model may call. */
export interface Tool {
  name: string;
  /** The JSON schema of its arguments. */
  parameters?: Readonly<Record<string, unknown>> | undefined;
}

/** A call, as far as it has come: the text of its arguments only grows. */
export interface Call {
  name: string;
  /** JSON. */
  arguments: string;
}

/** What a part of a text that may be calls is, as far as it has come. */
export interface Region {
  /** Calls whose name is whole. */
  calls: Call[];
  /** How much of the text they took, once all of them have ended. */
  end?: number;
  /** That it is no call: with calls before, nothing more comes. */
  failed?: boolean;
}

/** Where calls are in a model's text, and how they are read. */
export interface Format {
  /** What begins calls. The empty text: the whole answer may be one. */
  begin: readonly string[];
  /** What may follow calls, and is no text either. */
  end: readonly string[];
  /** Reads what follows the beginning; `whole` where no more text comes. */
  read(text: string, whole: boolean, tools: readonly Tool[]): Region;
}

/** What new text was: words for the user, the beginning of a call, or more of its arguments. */
export type Part = { text: string } | { call: number; name: string } | { call: number; arguments: string };

/** Takes a model's text apart, however it is cut into pieces. */
export class CallParser {
  readonly #format: Format;
  readonly #tools: readonly Tool[];
  /** Text that was not told yet; where calls have begun, what has come of them. */
  #rest = "";
  /** What began the calls that are being read; none where text is. */
  #begun: string | undefined;
  /** Calls before those that are being read, and what was told of these. */
  #before = 0;
  #told: Call[] = [];
  /** Whether calls have just ended, so that white space and an end are no words for the user. */
  #after = false;
  /** Whether any text has come that was no white space. */
  #spoken = false;

  constructor(format: Format, tools: readonly Tool[]) {
    this.#format = format;
    this.#tools = tools;
  }

  push(text: string): Part[] {
    this.#rest += text;
    return this.#read(false);
  }

  /** The end of the text: what was held back, as far as it is anything. */
  end(): Part[] {
    return this.#read(true);
  }

  #read(whole: boolean): Part[] {
    const parts: Part[] = [];
    while (this.#begun === undefined ? this.#text(parts, whole) : this.#calls(parts, whole));
    return parts;
  }

  #say(text: string, parts: Part[]): void {
    if (text === "") return;
    if (text.trim() !== "") {
      this.#spoken = true;
      this.#after = false;
    }
    parts.push({ text });
  }

  /** Looks for the beginning of calls; whether there is one. */
  #text(parts: Part[], whole: boolean): boolean {
    const { begin, end } = this.#format;
    if (this.#after) {
      const trimmed = this.#rest.trimStart();
      const mark = end.find((mark) => trimmed.startsWith(mark));
      if (mark !== undefined) {
        this.#rest = trimmed.slice(mark.length);
        return true;
      }
      if (trimmed === "" || end.some((mark) => mark.startsWith(trimmed))) {
        if (whole) this.#rest = "";
        return false;
      }
    }
    const marks = begin.filter((mark) => mark !== "");
    // Calls without a mark come first, or not at all.
    if (begin.includes("") && !this.#spoken && this.#rest.trim() !== "" && !marks.some((mark) => mark.startsWith(this.#rest.trimStart()))) {
      const mark = first(this.#rest.trimStart(), marks);
      if (mark?.at !== 0) {
        this.#begun = "";
        return true;
      }
    }
    const found = first(this.#rest, marks);
    if (found) {
      const before = this.#rest.slice(0, found.at);
      // White space before a call belongs to it.
      if (before.trim() !== "") this.#say(before.trimEnd(), parts);
      this.#rest = this.#rest.slice(found.at + found.mark.length);
      this.#begun = found.mark;
      return true;
    }
    // White space may belong to a call that is about to begin.
    const ready = whole ? this.#rest : this.#rest.slice(0, this.#rest.length - held(this.#rest, marks)).trimEnd();
    this.#rest = this.#rest.slice(ready.length);
    this.#say(ready, parts);
    return false;
  }

  /** Tells what is new of calls; whether they have ended. */
  #calls(parts: Part[], whole: boolean): boolean {
    const { calls, end, failed } = this.#format.read(this.#rest, whole, this.#tools);
    calls.forEach((call, i) => {
      const told = (this.#told[i] ??= { name: call.name, arguments: "" });
      if (i === this.#told.length - 1 && told.arguments === "" && !this.#named.has(this.#before + i)) {
        this.#named.add(this.#before + i);
        parts.push({ call: this.#before + i, name: call.name });
      }
      const more = call.arguments.slice(told.arguments.length);
      if (more !== "") parts.push({ call: this.#before + i, arguments: more });
      told.arguments = call.arguments;
    });
    if (end === undefined && !failed && !whole) return false;
    const begun = this.#begun!;
    this.#begun = undefined;
    const any = this.#told.length > 0;
    this.#before += this.#told.length;
    this.#told = [];
    if (!any) {
      // It was text all along; another call may be in it.
      this.#say(begun, parts);
      this.#spoken = true;
      return this.#rest !== "";
    }
    this.#after = true;
    this.#rest = end === undefined ? "" : this.#rest.slice(end);
    return this.#rest !== "";
  }

  readonly #named = new Set<number>();
}

/** How much of the end of `text` may be the beginning of one of `marks`. */
function held(text: string, marks: readonly string[]): number {
  let most = 0;
  for (const mark of marks) {
    for (let length = Math.min(mark.length - 1, text.length); length > most; length--) {
      if (text.endsWith(mark.slice(0, length))) most = length;
    }
  }
  return most;
}

/** The first of `marks` in `text`; of two at one place the longer. */
function first(text: string, marks: readonly string[]): { at: number; mark: string } | undefined {
  let found: { at: number; mark: string } | undefined;
  for (const mark of marks) {
    const at = text.indexOf(mark);
    if (at >= 0 && (!found || at < found.at || (at === found.at && mark.length > found.mark.length))) found = { at, mark };
  }
  return found;
}
