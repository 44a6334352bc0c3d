/** What is dropped on the page: files, or the files of a folder. */

/** The files of a drop, those of a folder without what lies deeper. Call it in the event: later there is nothing. */
export async function droppedFiles({ items, files }: DataTransfer): Promise<File[]> {
  const plain = [...files];
  const entries = [...items].map((item) => item.webkitGetAsEntry());
  // Files that a script made have no entry.
  if (!entries.some((entry) => entry?.isDirectory)) return plain;
  return (await Promise.all(entries.map(filesOf))).flat();
}

async function filesOf(entry: FileSystemEntry | null): Promise<File[]> {
  if (entry?.isFile) return [await fileOf(entry as FileSystemFileEntry)];
  if (!entry?.isDirectory) return [];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: File[] = [];
  for (;;) {
    // Some hundred at a time, none at the end.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return found;
    const here = some.filter(({ isFile }) => isFile) as FileSystemFileEntry[];
    found.push(...(await Promise.all(here.map(fileOf))));
  }
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
