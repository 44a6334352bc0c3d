/** Where the cache lies, and who is at it: a folder, and files for locks. Takes the place of `../source/place.ts`. */
import { randomUUID } from "node:crypto";
import { readFileSync, unlinkSync } from "node:fs";
import { mkdir, readFile, readdir, statfs, unlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Held } from "../source/place.js";
import { Folder } from "./folder.js";

export type { Held, WorkerFileHandle } from "../source/place.js";

/** Who limits the cache, as errors say it. */
export const LIMIT = "the disk has left";

/** Milliseconds between looks at a lock that is another's. */
const POLL = 100;
/** How a lock's file ends. */
const EXCLUSIVE = ".lock";
const SHARED = ".shared";

/** The cache's own folder. */
function home(): string {
  const { EMBERGRAM_CACHE_DIR: own, XDG_CACHE_HOME: caches } = process.env;
  return own || join(caches || join(homedir(), ".cache"), "embergram");
}

const models = () => join(home(), "models");
const locks = () => join(home(), "locks");

/** The folder of the models; undefined where none can be made. */
export async function root(create: boolean): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    if (create) await mkdir(models(), { recursive: true });
    else await readdir(models());
    return new Folder(models()) as unknown as FileSystemDirectoryHandle;
  } catch {
    return undefined;
  }
}

/**
 * Takes a lock; undefined where it is another's and `ifAvailable` asks not to wait. A lock is a file that names its process: one
 * of a process that is gone is nobody's.
 */
export async function lock(name: string, { mode, ifAvailable, steal }: LockOptions): Promise<Held | undefined> {
  await mkdir(locks(), { recursive: true });
  const file = name.replaceAll(":", "-");
  if (mode === "shared") return take(`${file}.${randomUUID()}${SHARED}`);
  for (;;) {
    const others = steal ? [] : await holders(file);
    if (others.length === 0) {
      if (steal) await unlink(join(locks(), file + EXCLUSIVE)).catch(() => {});
      const held = await take(file + EXCLUSIVE);
      if (held) return held;
    }
    if (ifAvailable) return undefined;
    await new Promise((done) => setTimeout(done, POLL));
  }
}

/** Makes a lock's file; undefined where there is one. */
async function take(file: string): Promise<Held | undefined> {
  const path = join(locks(), file);
  const mark = `${process.pid} ${randomUUID()}`;
  try {
    await writeFile(path, mark, { flag: "wx" });
  } catch {
    return undefined;
  }
  const isOurs = () => {
    try {
      return readFileSync(path, "utf8") === mark;
    } catch {
      return false;
    }
  };
  return {
    get lost() {
      return !isOurs();
    },
    release: () => {
      if (isOurs()) unlinkSync(path);
    },
  };
}

/** The files of a lock whose processes live. Others go. */
async function holders(file: string): Promise<string[]> {
  const files = (await readdir(locks()).catch(() => [])).filter((other) => other.startsWith(`${file}.`));
  const living = await Promise.all(files.map(isLiving));
  return files.filter((_, i) => living[i]);
}

async function isLiving(file: string): Promise<boolean> {
  const path = join(locks(), file);
  const mark = await readFile(path, "utf8").catch(() => undefined);
  if (mark === undefined) return false;
  // A file that is being written names nobody yet.
  if (mark === "" || runs(parseInt(mark))) return true;
  await unlink(path).catch(() => {});
  return false;
}

function runs(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** The names of the locks that are held, by all processes. */
export async function heldNames(): Promise<string[]> {
  const names = (await holdersOfAll()).map((file) => file.replace(/(?:\.[^.]+)?\.(?:lock|shared)$/, ""));
  return names.map((name) => name.replaceAll("-", ":"));
}

async function holdersOfAll(): Promise<string[]> {
  const files = await readdir(locks()).catch(() => []);
  const living = await Promise.all(files.map(isLiving));
  return files.filter((_, i) => living[i]);
}

/** Whether the disk has room for so many more bytes. */
export async function hasRoom(bytes: number): Promise<boolean> {
  const { bavail, bsize } = await statfs(home());
  return bavail * bsize >= bytes;
}
