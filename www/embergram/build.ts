/** A model's bytes become an engine. */
import type { Opened } from "./backend.js";
import { Loader, type Engine } from "./engine/engine.js";
import { RestartLoad, whole, type ModelSource } from "./source/index.js";
import type { EngineOptions } from "./types.js";

/** An engine, and what it alone is on. */
export interface Built {
  engine: Engine;
  opened: Opened;
}

/**
 * Streams a model's bytes to a device; begins again, on another, when they turn out not to be those of one file.
 *
 * @param open opens a device
 * @param onBytes told when all of them have come
 */
export async function build(
  source: ModelSource, options: EngineOptions, open: () => Promise<Opened>, onBytes: () => void,
): Promise<Built> {
  for (;;) {
    const opened = await open();
    try {
      const loader = Loader.open(opened.device, options);
      await fill(loader, source);
      onBytes();
      return { engine: loader.finish(), opened };
    } catch (error) {
      opened.close();
      if (!(error instanceof RestartLoad)) throw error;
    }
  }
}

async function fill(loader: Loader, source: ModelSource): Promise<void> {
  try {
    for (const file of source.files) loader.file(file.name, await whole(file));
    // All headers must be known before the first tensor comes. What was read to see one is read again in its turn: a stream
    // left open would hold a connection and the file's lock until then.
    for (const part of source.parts.slice(1)) {
      for await (const bytes of part.bytes()) if (loader.announce(bytes)) break;
    }
    for (const [i, part] of source.parts.entries()) {
      if (i > 0) loader.nextPart();
      for await (const bytes of part.bytes()) loader.push(bytes);
    }
  } catch (error) {
    loader.free();
    throw error;
  }
}
