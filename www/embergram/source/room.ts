import { EmbergramError } from "../error.js";
import { hasRoom, LIMIT } from "./place.js";
import { shown } from "./secrets.js";
import { Entry } from "./store.js";

/**
 * Makes sure that this origin may store so many more bytes. Where there is too little room, the least recently used files
 * go, but none that a load is at, and none for what would not fit even then.
 * @param keep files to keep besides
 */
export async function makeRoom(bytes: number, keep: readonly Entry[] = []): Promise<boolean> {
  if (await hasRoom(bytes)) return true;
  const used = await Entry.used();
  const others = (await Entry.all())
    .filter(({ key }) => !used.has(key) && !keep.some((entry) => entry.key === key))
    .sort((a, b) => a.lastUsed - b.lastUsed);
  const most = others.flatMap(({ meta }) => meta?.pieces ?? []).reduce((sum, piece) => sum + piece.size, 0);
  if (!(await hasRoom(Math.max(0, bytes - most)))) return false;
  for (const { key } of others) if ((await Entry.evict(key)) && (await hasRoom(bytes))) return true;
  return false;
}

/**
 * See {@link makeRoom}.
 * @throws EmbergramError `quota`
 */
export async function checkQuota(url: URL, bytes: number, keep: readonly Entry[] = []): Promise<void> {
  if (await makeRoom(bytes, keep)) return;
  throw new EmbergramError(
    "quota",
    `${shown(url)} needs ${(bytes / 1e6).toFixed(1)} MB of storage, more than ${LIMIT}, even without cached models that are not in use. Free disk space, or load with cache: false.`,
  );
}
