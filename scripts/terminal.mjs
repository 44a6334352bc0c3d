// Text that a terminal only shows. A model writes what its file makes it write: sequences that move the cursor, set the
// clipboard, or answer in the user's name among it.

/** The text with every control character but newline and tab as a sign that is seen: ESC as \u241B, 0x9B as \\x9b. */
export const printable = (text) =>
  text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, (control) => {
    const code = control.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? "\u2421" : `\\x${code.toString(16)}`;
  });

/** The same JSON, with those control characters escaped that JSON may hold as they are. */
export const harmless = (json) => json.replace(/[\x7f-\x9f]/g, (control) => `\\u00${control.charCodeAt(0).toString(16)}`);
