// Contrast as WCAG 2 defines it, between the page's colours as the browser computes them.

const TEXT = 4.5;
const EDGE = 3;

/** Pairs of custom properties that meet on the page: what is in front, what is behind, the least ratio (AA). */
const PAIRS = [
  ...["--ground", "--card", "--sunken", "--warn-ground", "--error-ground"].map((behind) => ["--ink", behind, TEXT]),
  ...["--ground", "--card", "--sunken"].map((behind) => ["--muted", behind, TEXT]),
  ...[0, 1, 2, 3, 4, 5, 6, 7].map((i) => ["--ink", `--tint-${i}`, TEXT]),
  ["--ink", "--forced", TEXT],
  ["--on-accent", "--accent", TEXT],
  ["--on-accent", "--accent-hover", TEXT],
  ["--edge", "--card", EDGE],
  ["--accent", "--card", EDGE],
  ["--focus", "--card", EDGE],
  ["--error-line", "--error-ground", EDGE],
  ["--bar-edge", "--sunken", EDGE],
  ...[0, 1, 2, 3, 4].map((i) => [`--series-${i}`, "--sunken", EDGE]),
];

/** The ratio of each pair in the theme of now. */
export async function contrasts(page) {
  const names = [...new Set(PAIRS.flatMap(([front, behind]) => [front, behind]))];
  const colors = Object.fromEntries(await page.evaluate((names) => {
    const probe = document.body.appendChild(document.createElement("span"));
    const all = names.map((name) => {
      probe.style.color = `var(${name})`;
      return [name, getComputedStyle(probe).color.match(/\d+/g).map(Number)];
    });
    probe.remove();
    return all;
  }, names));
  return PAIRS.map(([front, behind, least]) => ({ pair: `${front} on ${behind}`, ratio: ratio(colors[front], colors[behind]), least }));
}

function ratio(a, b) {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}

function luminance([r, g, b]) {
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
}
