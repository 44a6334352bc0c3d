/** Numbers as people read them. What is not known is a dash. */
const NONE = "–";

type Maybe = number | null | undefined;

const known = (value: Maybe): value is number => value != null && Number.isFinite(value);

/** Bytes in decimal units, as downloads are counted. */
export function bytes(value: Maybe): string {
  if (!known(value)) return NONE;
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 || value >= 99.95 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds, in the unit that suits them. */
export function seconds(value: Maybe): string {
  if (!known(value)) return NONE;
  if (value < 0.0995) return `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms`;
  if (value < 0.9995) return `${(value * 1000).toFixed(0)} ms`;
  return value < 100 ? `${value.toFixed(value < 9.995 ? 2 : 1)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

/** A share of one as per cent. */
export function percent(value: Maybe): string {
  return known(value) ? `${(value * 100).toFixed(1)} %` : NONE;
}

/** A number with this many decimals. */
export function fixed(value: Maybe, decimals: number): string {
  return known(value) ? value.toFixed(decimals) : NONE;
}

/** A rate: the fewer it is, the more decimals. */
export function rate(value: Maybe): string {
  return known(value) ? value.toFixed(value < 99.95 ? 1 : 0) : NONE;
}

/** Thousands apart. */
export function count(value: Maybe): string {
  return known(value) ? value.toLocaleString("en") : NONE;
}

/** A moment, in milliseconds since 1970: the time of today, else the day. */
export function time(value: number): string {
  const date = new Date(value);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hour12: false }) : date.toLocaleDateString("en", { dateStyle: "medium" });
}
