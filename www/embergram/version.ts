/** Files of one package that were deployed apart, or cached apart, may be of two versions. */
import { EmbergramError } from "./error.js";

/** That of package.json; scripts/build.mjs puts it in. */
declare const EMBERGRAM_VERSION: string;

/** This file's version. */
export const VERSION: string = EMBERGRAM_VERSION;

/**
 * @param found the other's; undefined where it is so different that it cannot say
 * @throws EmbergramError `invalid_config` where the two are of different versions
 */
export function checkVersions(one: string, version: string, other: string, found: string | undefined): void {
  if (version === found) return;
  throw new EmbergramError(
    "invalid_config",
    `${one} is of embergram ${version}, and ${other} of ${found ?? "another version"}. Deploy the files of one version together, ` +
      "reload past caches that keep an old one, and see that workerUrl and wasmUrl lead to files of this version (docs/packaging.md).",
  );
}
