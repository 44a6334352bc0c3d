/** Files at hand: which of them make up a model. */
import { EmbergramError } from "../error.js";
import { folderFiles, isFolder, type ModelFiles } from "./folder.js";
import { SPLIT, splitOf } from "./names.js";

/** A file's name; none of a Blob. */
export const nameOf = (file: Blob | undefined) => (file as Partial<File> | undefined)?.name ?? "";

/** Where a file lies in the folder that was chosen. */
const pathOf = (file: Blob) => (file as Partial<File>).webkitRelativePath || nameOf(file);
const directoryOf = (file: Blob) => pathOf(file).split("/").slice(0, -1).join("/");
const isGguf = (file: Blob) => /\.gguf$/i.test(nameOf(file));

/**
 * Of the files of a chosen folder those that lie beside its model: in the topmost folder that holds one.
 * @throws EmbergramError `invalid_config` where several do
 */
export function besideModel(files: readonly Blob[]): readonly Blob[] {
  const depth = (directory: string) => (directory === "" ? 0 : directory.split("/").length);
  const marks = files.filter((file) => isGguf(file) || nameOf(file) === "config.json");
  const directories = [...new Set(marks.map(directoryOf))].sort((a, b) => depth(a) - depth(b));
  const [first, second] = directories;
  if (first === undefined) return files;
  if (second !== undefined && depth(first) === depth(second)) {
    throw new EmbergramError("invalid_config", `model: several folders hold models: ${directories.slice(0, 5).join(", ")}. Choose the folder of one.`);
  }
  return files.filter((file) => directoryOf(file) === first);
}

/**
 * The files of a model in their order, out of all that were given: one GGUF, all parts of a split one, or a Hugging Face folder.
 * @throws EmbergramError `invalid_config`, `invalid_file`, `unsupported_model`
 */
export async function modelFiles(given: readonly Blob[]): Promise<ModelFiles<Blob>> {
  const files = besideModel(given);
  const names = files.map(nameOf);
  const ggufs = files.filter(isGguf);
  if (isFolder(names) || (names.includes("config.json") && ggufs.length === 0)) {
    const byName = new Map(files.map((file) => [nameOf(file), file]));
    const folder = directoryOf(files[0]!);
    const found = await folderFiles({
      place: folder || "the folder",
      find: async (name) => byName.get(name),
      text: async (file) => file.text(),
    });
    return { ...found, ...(folder && { name: folder.slice(folder.lastIndexOf("/") + 1) }) };
  }
  // What else lies in the folder, a README say, is no part of it.
  return { weights: orderedFiles(ggufs.length > 0 ? ggufs : files), small: [] };
}

/** Files in the order of their parts. */
function orderedFiles(files: readonly Blob[]): Blob[] {
  if (files.length === 0) throw new EmbergramError("invalid_config", "model: the list of files is empty.");
  const split = splitOf(nameOf(files[0]));
  if (split === undefined) {
    if (files.length === 1) return [...files];
    throw new EmbergramError("invalid_config", `model: "${nameOf(files[0])}" is not named as a part of a split GGUF (name-00001-of-00003.gguf), yet ${files.length} files were given. Give one model.`);
  }
  const stem = nameOf(files[0]).replace(SPLIT, "");
  const byPart = new Map(files.filter((f) => nameOf(f).replace(SPLIT, "") === stem).map((f) => [splitOf(nameOf(f))?.part, f]));
  const ordered = Array.from({ length: split.parts }, (_, i) => byPart.get(i + 1));
  const missing = ordered.flatMap((file, i) => (file === undefined ? [i + 1] : []));
  if (missing.length > 0 || files.length !== split.parts) {
    throw new EmbergramError("invalid_config", `model: "${nameOf(files[0])}" is one of ${split.parts} parts; give all ${split.parts} files as an array, and no others` +
      (missing.length > 0 ? ` (part ${missing.join(", ")} is missing).` : "."));
  }
  return ordered.filter((file) => file !== undefined);
}

/** A file of the user's that the browser cannot read any more. */
export function unreadable(name: string, cause: unknown): EmbergramError {
  return new EmbergramError("invalid_file", `The file "${name}" could not be read (${String(cause)}). If it was moved or changed, choose it again.`, { cause });
}
