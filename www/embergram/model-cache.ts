/** The cache as the package offers it: what is kept, and a download that loads nothing. */
import { offerFetch } from "./fetch-port.js";
import { inHost, type InspectOptions } from "./llm.js";
import { keptModels } from "./source/index.js";
import type { LoadProgress } from "./types.js";

/** Options of `modelCache.download`: those of a load, as far as they matter to it. */
export interface KeepOptions extends InspectOptions {
  /** Told of the download's progress. */
  onProgress?: (progress: LoadProgress) => void;
  /** What the file's bytes must hash to (hex), as for a load. */
  sha256?: string | readonly string[];
}

/** The models kept in this origin's OPFS, under Node in a folder. In contexts without OPFS it is empty. */
export const modelCache = {
  ...keptModels,

  /**
   * Brings a model into the cache, under the name and options it will be loaded by, and loads nothing: a later load needs no
   * network. What is there already is read, checked, and not fetched again.
   * @returns the bytes of its files
   * @throws EmbergramError `http`, `network`, `quota`, `invalid_config`, `invalid_file`, `aborted`
   */
  async download(model: string | URL, options: KeepOptions = {}): Promise<number> {
    const { onProgress, fetch } = options;
    return inHost("the download was aborted", { ...options, model }, async (connection, request) => {
      try {
        const progress = onProgress && connection.callback(onProgress);
        const port = fetch && connection.callback(offerFetch(fetch));
        return await connection.call((host) => host.download(request, progress, port));
      } finally {
        void connection.close();
      }
    });
  },
};
