/** Calls as Python has them: `[weather(city="Zurich", days=[1, 2]), now()]`, which Llama 3.2 and others write. */

export interface PythonCall {
  name: string;
  arguments: Record<string, unknown>;
}

/** Reads a list of calls, or calls one after another; `undefined` where it is anything else. */
export function pythonCalls(text: string): PythonCall[] | undefined {
  const reader = new Reader(text);
  try {
    const calls = reader.calls();
    return calls.length > 0 ? calls : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Lists and dicts inside each other. */
const MOST_DEEP = 64;

class Reader {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  calls(): PythonCall[] {
    const list = this.#take("[");
    const calls: PythonCall[] = [];
    this.#space();
    while (this.#at < this.#text.length && this.#text[this.#at] !== "]") {
      calls.push(this.#call());
      // In a list there are commas between; without, lines or semicolons.
      if (!this.#take(",") && !(!list && this.#take(";")) && list) break;
      this.#space();
    }
    if (list) this.#expect("]");
    this.#space();
    if (this.#at < this.#text.length) throw new SyntaxError("more than calls");
    return calls;
  }

  #call(): PythonCall {
    let name = this.#name();
    // print(weather(...)) and the like are no calls of tools.
    while (this.#take(".")) name += `.${this.#name()}`;
    this.#expect("(");
    const given: Record<string, unknown> = {};
    while (!this.#take(")")) {
      const key = this.#name();
      this.#expect("=");
      Object.defineProperty(given, key, { value: this.#value(), enumerable: true, configurable: true, writable: true });
      if (!this.#take(",")) {
        this.#expect(")");
        break;
      }
    }
    return { name, arguments: given };
  }

  #value(): unknown {
    if (++this.#depth > MOST_DEEP) throw new SyntaxError("too deep");
    this.#space();
    const value = this.#plain();
    this.#depth -= 1;
    return value;
  }

  #plain(): unknown {
    const c = this.#text[this.#at];
    if (c === '"' || c === "'") return this.#string(c);
    if (this.#take("[")) return this.#list("]");
    if (this.#take("(")) return this.#list(")");
    if (this.#take("{")) return this.#dict();
    const number = /^[-+]?(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?/i.exec(this.#text.slice(this.#at, this.#at + 64));
    if (number) {
      this.#at += number[0].length;
      return Number(number[0].replaceAll("_", ""));
    }
    const name = this.#name();
    const known: Record<string, unknown> = { True: true, False: false, None: null, true: true, false: false, null: null };
    if (Object.hasOwn(known, name)) return known[name];
    throw new SyntaxError(`${name} is no value`);
  }

  #list(end: string): unknown[] {
    const values: unknown[] = [];
    while (!this.#take(end)) {
      values.push(this.#value());
      if (!this.#take(",")) {
        this.#expect(end);
        break;
      }
    }
    return values;
  }

  #dict(): Record<string, unknown> {
    const entries: [string, unknown][] = [];
    while (!this.#take("}")) {
      const key = this.#value();
      this.#expect(":");
      entries.push([String(key), this.#value()]);
      if (!this.#take(",")) {
        this.#expect("}");
        break;
      }
    }
    return Object.fromEntries(entries);
  }

  #string(quote: string): string {
    const long = this.#text.startsWith(quote.repeat(3), this.#at) ? 3 : 1;
    const end = quote.repeat(long);
    this.#at += long;
    let value = "";
    while (!this.#text.startsWith(end, this.#at)) {
      const c = this.#text[this.#at++];
      if (c === undefined || (c === "\n" && long === 1)) throw new SyntaxError("a string without an end");
      value += c === "\\" ? this.#escape() : c;
    }
    this.#at += long;
    return value;
  }

  #escape(): string {
    const c = this.#text[this.#at++] ?? "";
    const plain: Record<string, string> = { n: "\n", t: "\t", r: "\r", "\\": "\\", "'": "'", '"': '"', "\n": "", b: "\b", f: "\f", 0: "\0" };
    if (Object.hasOwn(plain, c)) return plain[c]!;
    const length = { x: 2, u: 4, U: 8 }[c];
    if (length === undefined) return `\\${c}`;
    const hex = this.#text.slice(this.#at, this.#at + length);
    if (!/^[0-9a-f]+$/i.test(hex) || hex.length < length || parseInt(hex, 16) > 0x10ffff) throw new SyntaxError("a bad escape");
    this.#at += length;
    return String.fromCodePoint(parseInt(hex, 16));
  }

  #name(): string {
    this.#space();
    const name = /^[\p{L}_][\p{L}\p{N}_-]*/u.exec(this.#text.slice(this.#at, this.#at + 256));
    if (!name) throw new SyntaxError("a name is missing");
    this.#at += name[0].length;
    return name[0];
  }

  #space(): void {
    while (/\s/.test(this.#text[this.#at] ?? "")) this.#at += 1;
  }

  #take(text: string): boolean {
    this.#space();
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #expect(text: string): void {
    if (!this.#take(text)) throw new SyntaxError(`${text} is missing`);
  }
}
