/** uPlot in the page's colours: a line chart, and bars over named places. */
import uPlot from "uplot";
import { make } from "./dom.js";

/** A chart's card on the page: a title, the value of now (or under the pointer), the drawing. */
export interface Chart {
  /**
   * Draws anew.
   * @param now the value to show while the pointer is elsewhere
   * @param spoken what the chart shows, in words
   */
  update(data: uPlot.AlignedData, now: string, spoken: string): void;
  remove(): void;
}

/** A line. Without `color` the accent's. */
export interface Line {
  label: string;
  /** Name of a CSS custom property. */
  color?: string;
  dash?: number[];
}

interface Options {
  id: string;
  title: string;
  /** What a value reads as, in the head of the card. */
  value: (y: number) => string;
  /** What an axis tick reads as; default as `value`. */
  tick?: (y: number) => string;
  /** What a place on the x axis reads as. */
  place: (x: number) => string;
  /** Lowest value that the top of the y axis has. */
  top?: number;
  /** Whether `top` is the highest there can be. */
  fixed?: boolean;
  wide?: boolean;
  /** Pixels that a place's name takes on the x axis. */
  room?: number;
}

const charts = new Set<uPlot>();
let colors = new Map<string, string>();

/** A custom property's colour as the canvas understands it, in the theme of now. */
function color(property: string): string {
  let found = colors.get(property);
  if (found === undefined) {
    const probe = make("span");
    probe.style.color = `var(${property})`;
    document.body.append(probe);
    found = getComputedStyle(probe).color;
    probe.remove();
    colors.set(property, found);
  }
  return found;
}

/** Draws all charts in the colours of the theme, which has changed. */
export function repaint(): void {
  colors = new Map();
  for (const chart of charts) chart.redraw(false);
}

export function lineChart(parent: HTMLElement, options: Options, lines: readonly Line[]): Chart {
  const series = lines.map(({ label, color: property = "--accent", dash }): uPlot.Series => ({
    label,
    stroke: () => color(property),
    width: 2,
    points: { show: (_, __, first, last) => last - first < 24, size: 6, fill: () => color(property) },
    ...(dash ? { dash } : {}),
  }));
  const x = { range: (_: uPlot, min: number, max: number): [number, number] => [min ?? 0, Math.max(max ?? 0, (min ?? 0) + 1)] };
  return chart(parent, options, series, x);
}

/** Bars at x = 0, 1, 2, … with names; `tint` colours each by its place. */
export function barChart(parent: HTMLElement, options: Options, tint?: (x: number) => string): Chart {
  const fills = tint && {
    fill: { unit: 3 as const, values: (u: uPlot) => Array.from(u.data[0], (x) => color(tint(x))) },
  };
  const series: uPlot.Series = {
    label: options.title,
    fill: () => color("--bar"),
    stroke: () => color("--bar-edge"),
    width: 1,
    points: { show: false },
    paths: uPlot.paths.bars!({ size: [0.72, 56], ...(fills && { disp: fills }) }),
  };
  // By the number of bars: for a single one uPlot makes up an end.
  const x = { range: (u: uPlot): [number, number] => [-0.5, Math.max(u.data[0].length, 1) - 0.5] };
  return chart(parent, options, [series], x, true);
}

function chart(parent: HTMLElement, options: Options, series: uPlot.Series[], x: Partial<uPlot.Scale>, whole = false): Chart {
  const { id, title, value, tick = value, place, top = 0, fixed = false, wide = false, room = 44 } = options;
  const now = make("strong", { id: `${id}-now`, textContent: "–" });
  const drawing = make("div", { className: "drawing", role: "img" });
  const figure = make("figure", { id, className: wide ? "chart wide" : "chart" }, make("figcaption", {}, make("span", {}, title), now), drawing);
  drawing.setAttribute("aria-label", `${title}: nothing yet`);
  parent.append(figure);

  let rest = "–";
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const axis: uPlot.Axis = {
    stroke: () => color("--muted"), font, labelFont: font,
    grid: { stroke: () => color("--grid"), width: 1 },
    ticks: { show: false },
  };
  const plot = new uPlot(
    {
      width: 240,
      height: 132,
      legend: { show: false },
      padding: [14, 14, 0, 0],
      cursor: { y: false, points: { size: 8 }, drag: { x: false, y: false } },
      scales: {
        x: { time: false, ...x },
        y: { range: (_, __, max) => [0, fixed ? top : Math.max(top, (max ?? 0) * 1.08)] },
      },
      axes: [
        { ...axis, size: 24, gap: 4, space: room, grid: { show: false }, values: (_, at) => at.map((x) => (whole && !Number.isInteger(x) ? "" : place(x))), ...(whole ? { incrs: [1, 2, 5, 10] } : {}) },
        { ...axis, size: 48, gap: 6, space: 28, values: (_, at) => at.map(tick) },
      ],
      series: [{}, ...series],
      hooks: { setCursor: [(u) => (now.textContent = under(u) ?? rest)] },
    },
    [[], ...series.map(() => [])] as unknown as uPlot.AlignedData,
    drawing,
  );
  charts.add(plot);
  const resizes = new ResizeObserver(([entry]) => {
    const { width, height } = entry!.contentRect;
    plot.setSize({ width: Math.floor(width), height: Math.floor(height) });
  });
  resizes.observe(drawing);

  /** What is under the pointer, in words. */
  function under(u: uPlot): string | undefined {
    const at = u.cursor.idx;
    if (at == null || u.cursor.left! < 0) return undefined;
    const values = u.data.slice(1).flatMap((ys, i) => {
      const y = ys[at];
      return y == null ? [] : [series.length > 1 ? `${series[i]!.label}: ${value(y)}` : value(y)];
    });
    return values.length > 0 ? `${place(u.data[0][at]!)} · ${values.join(", ")}` : undefined;
  }

  return {
    update(data, current, spoken) {
      rest = current;
      figure.toggleAttribute("data-filled", data[0].length > 0);
      drawing.setAttribute("aria-label", `${title}: ${spoken}`);
      plot.setData(data);
      now.textContent = under(plot) ?? rest;
    },
    remove() {
      resizes.disconnect();
      charts.delete(plot);
      plot.destroy();
      figure.remove();
    },
  };
}
