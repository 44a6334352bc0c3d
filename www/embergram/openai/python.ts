/** How Python writes values and speaks of broken JSON: vLLM's error messages are made of both. */

/** `repr` of a string. */
export function repr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escape = (c: string) => {
    if (c === quote || c === "\\") return `\\${c}`;
    const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[c];
    return short ?? `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`;
  };
  return quote + text.replace(quote === '"' ? /["\\\x00-\x1f\x7f]/g : /['\\\x00-\x1f\x7f]/g, escape) + quote;
}

/** `str` of a float. */
export function float(x: number): string {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf";
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) return x.toExponential().replace(/e([-+])(\d)$/, "e$10$2");
  return Number.isInteger(x) ? `${x}.0` : String(x);
}

/** `str` of a JSON value. */
export function str(value: unknown): string {
  if (value == null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map((v) => (typeof v === "string" ? repr(v) : str(v))).join(", ")}]`;
  return String(value);
}

/** What Python's `json` says of a text that is no JSON, and where: in characters, not UTF-16 units. */
export function jsonError(text: string): { at: number; message: string } {
  try {
    const scan = new Scanner(text);
    scan.space();
    scan.value();
    scan.space();
    if (scan.at < text.length) scan.fail("Extra data");
  } catch (found) {
    if (found instanceof Broken) return { at: [...text.slice(0, found.at)].length, message: found.message };
    throw found;
  }
  return { at: 0, message: "Expecting value" };
}

class Broken extends Error {
  constructor(message: string, readonly at: number) {
    super(message);
  }
}

/** Nesting that is followed; JSON.parse refuses deeper texts for the same reason. */
const DEEPEST = 1000;

class Scanner {
  at = 0;
  #depth = 0;

  constructor(readonly text: string) {}

  fail(message: string, at = this.at): never {
    throw new Broken(message, at);
  }

  space(): void {
    while (" \t\n\r".includes(this.text[this.at] ?? "x")) this.at += 1;
  }

  value(): void {
    const c = this.text[this.at];
    if (c === '"') return this.string();
    if (c === "{" || c === "[") {
      if (++this.#depth > DEEPEST) this.fail("Expecting value");
      if (c === "{") this.object();
      else this.array();
      this.#depth -= 1;
      return;
    }
    const literal = /(?:null|true|false|NaN|-?Infinity|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?)/y;
    literal.lastIndex = this.at;
    if (!literal.test(this.text)) this.fail("Expecting value");
    this.at = literal.lastIndex;
  }

  string(): void {
    const start = this.at++;
    for (;;) {
      const c = this.text[this.at];
      if (c === undefined) this.fail("Unterminated string starting at", start);
      if (c < " ") this.fail("Invalid control character at");
      this.at += 1;
      if (c === '"') return;
      if (c !== "\\") continue;
      const escaped = this.text[this.at];
      if (escaped === undefined) this.fail("Unterminated string starting at", start);
      if (escaped === "u") {
        if (!/^[0-9a-fA-F]{4}$/.test(this.text.slice(this.at + 1, this.at + 5))) this.fail("Invalid \\uXXXX escape", this.at + 1);
        this.at += 4;
      } else if (!'"\\/bfnrt'.includes(escaped)) this.fail("Invalid \\escape", this.at - 1);
      this.at += 1;
    }
  }

  object(): void {
    this.at += 1;
    this.space();
    if (this.text[this.at] === "}") return void (this.at += 1);
    for (;;) {
      if (this.text[this.at] !== '"') this.fail("Expecting property name enclosed in double quotes");
      this.string();
      this.space();
      if (this.text[this.at] !== ":") this.fail("Expecting ':' delimiter");
      if (this.element("}")) return;
    }
  }

  array(): void {
    this.at += 1;
    this.space();
    if (this.text[this.at] === "]") return void (this.at += 1);
    for (this.at -= 1; !this.element("]"); this.at -= 1);
  }

  /** What follows a delimiter: a value, and another delimiter, before the next element, or the end; gives whether that. */
  element(end: string): boolean {
    this.at += 1;
    this.space();
    this.value();
    this.space();
    if (this.text[this.at] === end) {
      this.at += 1;
      return true;
    }
    if (this.text[this.at] !== ",") this.fail("Expecting ',' delimiter");
    this.at += 1;
    this.space();
    return false;
  }
}
