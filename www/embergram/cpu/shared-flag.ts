/** The kernels' module imports a shared memory. Where there is none, it runs on one of its own all the same. */

const IMPORTS = 2;
const MEMORY = 2;
const SHARED = 2;

/**
 * A copy of a module whose imported memory is not shared. Every other instruction is the same: atomics are valid on such a
 * memory too, only waiting on it is not, and a thread that is alone never waits.
 *
 * See the WebAssembly specification, "Binary Format", "Import Section", and the threads proposal for the flag.
 */
export function unshared(module: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const bytes = module.slice();
  // Magic and version.
  let at = 8;
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      value |= (byte & 127) << shift;
      if (byte < 128) return value >>> 0;
    }
  };
  const skipName = () => {
    const length = number();
    at += length;
  };
  while (at < bytes.length) {
    const section = number();
    const size = number();
    if (section !== IMPORTS) {
      at += size;
      continue;
    }
    for (let count = number(); count > 0; count--) {
      skipName();
      skipName();
      const kind = bytes[at++];
      if (kind === MEMORY) {
        bytes[at]! &= ~SHARED;
        return bytes;
      }
      // Functions are the only other imports that it has.
      number();
    }
  }
  return bytes;
}
