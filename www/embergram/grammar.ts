/**
 * Grammars, for requests with `structured_outputs`: a WebAssembly module of their own, which the first such request fetches. The
 * engine calls it (`crate/src/sample/page.rs`), and it calls the engine's tokenizer.
 */
import type { Words } from "./engine/engine.js";
import { EmbergramError, unloadedError } from "./error.js";
import { moduleBytes, type ModuleOptions } from "./module.js";

/** What the module exports (`crate/grammar/wasm`). */
interface GrammarExports {
  memory: WebAssembly.Memory;
  embergram_input(bytes: number): number;
  embergram_tokens(count: number): number;
  embergram_answer(): number;
  embergram_answer_bytes(): number;
  embergram_vocabulary(): number;
  embergram_compile(): number;
  embergram_copy(handle: number): number;
  embergram_free(handle: number): void;
  embergram_mask(handle: number): number;
  embergram_commit(handle: number, token: number): number;
  embergram_forced(handle: number, most: number): number;
  embergram_validate(handle: number): number;
}

/** See the interface `PageModule` in `crate/src/sample/page.rs`. An instance serves one model. */
export class Grammars {
  readonly #exports: GrammarExports;
  readonly #words: Words;
  /** Why it is of no more use: it trapped. */
  #dead: EmbergramError | undefined;
  #closed = false;

  private constructor(exports: GrammarExports, words: Words) {
    this.#exports = exports;
    this.#words = words;
  }

  /** Fetches the module, and tells an instance of it the vocabulary. */
  static async open(words: Words, options: ModuleOptions): Promise<Grammars> {
    const bytes = await moduleBytes("grammar", options);
    let exports: GrammarExports;
    const env = {
      now: () => performance.now(),
      tokenize: (text: number, length: number) => {
        const tokens = words.tokenize(new Uint8Array(exports.memory.buffer, text, length));
        const at = exports.embergram_tokens(tokens.length);
        new Uint32Array(exports.memory.buffer, at, tokens.length).set(tokens);
      },
    };
    const { instance } = await WebAssembly.instantiate(bytes, { env });
    exports = instance.exports as unknown as GrammarExports;
    const grammars = new Grammars(exports, words);
    grammars.#write(words.vocabulary());
    grammars.#call(() => exports.embergram_vocabulary());
    return grammars;
  }

  /** Whether it trapped, so that another is needed. */
  get dead(): boolean {
    return this.#dead !== undefined;
  }

  /** Ends it, with its model. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#dead ??= unloadedError();
    this.#words.free();
  }

  compile(spec: string): number {
    this.#write(new TextEncoder().encode(spec));
    return this.#call((e) => e.embergram_compile());
  }

  copy(handle: number): number {
    return this.#call((e) => e.embergram_copy(handle));
  }

  free(handle: number): void {
    try {
      this.#call((e) => (e.embergram_free(handle), 0));
    } catch {
      // It went with the instance.
    }
  }

  mask(handle: number): Uint32Array {
    this.#call((e) => e.embergram_mask(handle));
    return this.#answered();
  }

  commit(handle: number, token: number): void {
    this.#call((e) => e.embergram_commit(handle, token));
  }

  forced(handle: number, most: number): Uint32Array {
    this.#call((e) => e.embergram_forced(handle, most));
    return this.#answered();
  }

  validate(handle: number, tokens: Uint32Array): number {
    this.#write(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength));
    return this.#call((e) => e.embergram_validate(handle));
  }

  /** A call that gives less than 0 has left a message. One that traps is the instance's last. */
  #call(call: (exports: GrammarExports) => number): number {
    if (this.#dead) throw this.#dead;
    let given: number;
    try {
      given = call(this.#exports);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw (this.#dead = new EmbergramError("grammar_failed", `the module of grammars stopped (${why})`));
    }
    if (given < 0) throw new Error(new TextDecoder().decode(this.#answer()));
    return given;
  }

  #write(bytes: Uint8Array): void {
    this.#call((e) => {
      const at = e.embergram_input(bytes.length);
      new Uint8Array(e.memory.buffer, at, bytes.length).set(bytes);
      return 0;
    });
  }

  #answer(): Uint8Array {
    const { memory, embergram_answer: at, embergram_answer_bytes: length } = this.#exports;
    return new Uint8Array(memory.buffer, at(), length());
  }

  #answered(): Uint32Array {
    return new Uint32Array(this.#answer().slice().buffer);
  }
}
