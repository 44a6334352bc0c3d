/** A model's bytes become an engine. */
import { Device, Engine, Loader } from "./engine/engine.js";
import { RestartLoad, whole, type ModelSource } from "./source/index.js";
import type { EngineOptions } from "./types.js";

/** An engine, and the device that it alone is on. */
export interface Built {
  engine: Engine;
  device: Device;
}

/**
 * Streams a model's bytes to a device; begins again, on another, when they turn out not to be those of one file.
 *
 * @param onBytes told when all of them have come
 */
export async function build(source: ModelSource, options: EngineOptions, onBytes: () => void): Promise<Built> {
  for (;;) {
    const device = await Device.open();
    try {
      const loader = Loader.open(device, options);
      await fill(loader, source);
      onBytes();
      return { engine: loader.finish(), device };
    } catch (error) {
      letGo(device);
      if (!(error instanceof RestartLoad)) throw error;
    }
  }
}

/**
 * Gives a device's memory back. Dropping buffers would not: browsers free them when they collect garbage, and the engine's
 * device layer keeps some for ever.
 */
export function letGo(device: Device): void {
  device.destroy();
  device.free();
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
