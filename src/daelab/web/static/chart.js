// A line chart in SVG.

import { h, number, s } from "./dom.js";

const [LEFT, RIGHT, TOP, BOTTOM] = [58, 14, 10, 30];
const DASHES = ["", "7 3", "2 3"];
const COLOURS = 6;

export const look = (place) => ({ stroke: `var(--c${place % COLOURS})`, "stroke-dasharray": DASHES[Math.floor(place / COLOURS) % DASHES.length], fill: "none" });

/** Format a number with few digits: 12,000, 0.0005, 2.5e-7. */
export const short = (value, digits = 5) => {
  const rounded = Number(value.toPrecision(digits));
  return rounded !== 0 && (Math.abs(rounded) < 1e-4 || Math.abs(rounded) >= 1e7) ? rounded.toExponential() : number(rounded, Math.min(8, /\.(\d+)/.exec(`${rounded}`)?.[1].length ?? 0));
};

/** Format the marks of an axis with as few digits as tell them apart: 10.84, 10.845, 10.85. */
export function labelMarks(values, digits) {
  for (; digits < 12; digits++) {
    const labels = values.map((value) => short(value, digits));
    if (new Set(labels).size === labels.length) return labels;
  }
  return values.map(String);
}

/** Return about `count` round values between two values. */
export function steps(low, high, count) {
  const raw = (high - low) / count || 1;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((by) => by * size).find((value) => value >= raw);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

function powers(low, high) {
  const found = [];
  for (let size = 10 ** Math.floor(Math.log10(low)); size <= high; size *= 10) {
    found.push(...[1, 2, 5].map((by) => Number((by * size).toPrecision(3))).filter((value) => value >= low && value <= high));
  }
  return found.length > 9 ? found.filter((value) => /^(0\.)?0*1/.test(`${value}`) || /^1e/.test(`${value}`)) : found;
}

/** Return the point of a curve that is nearest to a place on the horizontal axis. The points are in order. */
export function nearest(points, x) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle;
    else high = middle;
  }
  const [before, after] = [points[low], points[high]];
  return before && x - before[0] < after[0] - x ? before : after;
}

/**
 * Draw curves.
 *
 * @param lines [{name, points: [[x, value], ...], raw: the points before smoothing, or null}]
 * @param title What the values are.
 * @param log   Whether the axis of the values is logarithmic.
 * @param along {title, whole}: what x is, and whether it has only whole values.
 * @param heard A function that is called with a place on the x axis, or null, when the pointer or the arrow keys move.
 */
export function drawChart(place, lines, { title, log, along, heard }) {
  // The chart is as wide as its element, so that text keeps its size on a phone.
  const W = Math.max(260, place.clientWidth);
  const H = W < 600 ? 230 : 320;
  const points = lines.flatMap((line) => [...line.points, ...(line.raw ?? [])]);
  if (!points.length) {
    place.replaceChildren(h("p", { class: "muted" }, "There are no values yet."));
    return;
  }
  const span = (at) => points.reduce(([low, high], point) => [Math.min(low, point[at]), Math.max(high, point[at])], [Infinity, -Infinity]);
  let [[left, right], [low, high]] = [span(0), span(1)];
  if (right === left) right = left + 1;
  log &&= low > 0;
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  [low, high] = log ? [low / 1.06, high * 1.06] : [low - pad, high + pad];
  const scale = log ? Math.log : (value) => value;
  const x = (value) => LEFT + ((value - left) / (right - left)) * (W - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (scale(value) - scale(low)) / (scale(high) - scale(low))) * (H - TOP - BOTTOM);
  const ticks = log ? powers(low, high) : [];
  const rows = ticks.length >= 2 ? ticks : steps(low, high, 5);
  const across = steps(left, right, Math.min(10, W / 80)).filter((value) => !along.whole || Number.isInteger(value));
  const [labels, below] = [labelMarks(rows, 3), labelMarks(across, 4)];
  const cursor = s("g", { hidden: true });
  const svg = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title} by ${along.title}. ${spoken(lines, along)}` },
    ...rows.flatMap((value, at) => [
      s("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(value), y2: y(value) }),
      s("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, labels[at]),
    ]),
    ...across.map((value, at) => s("text", { x: x(value), y: H - BOTTOM + 17, "text-anchor": "middle" }, below[at])),
    s("text", { x: LEFT - 7, y: H - BOTTOM + 17, "text-anchor": "end" }, along.title),
    ...lines.flatMap((line, at) => [line.raw && curve(thin(line.raw, x, W), at, x, y, true), curve(thin(line.points, x, W), at, x, y)]).filter(Boolean),
    cursor);
  const point = (to) => {
    cursor.toggleAttribute("hidden", to === null);
    if (to !== null) {
      const found = lines.map(({ points: own }) => (own.length ? nearest(own, to) : null));
      cursor.replaceChildren(
        s("line", { class: "axis", x1: x(to), x2: x(to), y1: TOP, y2: H - BOTTOM }),
        ...found.flatMap((one, at) => (one ? [s("circle", { cx: x(one[0]), cy: y(one[1]), r: 4, style: { fill: look(at).stroke } })] : [])));
    }
    heard(to);
  };
  const places = [...new Set(lines.flatMap((line) => line.points.map(([to]) => to)))].sort((a, b) => a - b).map((to) => [to]);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * W - LEFT) / (W - LEFT - RIGHT);
    point(nearest(places, left + Math.min(1, Math.max(0, share)) * (right - left))[0]);
  });
  svg.addEventListener("pointerleave", () => point(null));
  let at = places.length;
  place.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    at = Math.min(places.length - 1, Math.max(0, at + by));
    point(places[at][0]);
  };
  place.onblur = () => point(null);
  place.replaceChildren(svg);
}

/** Keep the lowest and the highest point of each pixel column, since more cannot be seen. */
function thin(points, x, width) {
  if (points.length <= 2 * width) return points;
  const columns = new Map();
  for (const point of points) {
    const column = Math.round(x(point[0]));
    const [low, high] = columns.get(column) ?? [point, point];
    columns.set(column, [point[1] < low[1] ? point : low, point[1] > high[1] ? point : high]);
  }
  return [...columns.values()].flatMap((pair) => [...new Set(pair)].sort((a, b) => a[0] - b[0]));
}

function curve(points, at, x, y, faint = false) {
  const style = { ...look(at), "stroke-width": faint ? 1 : 2, "stroke-linejoin": "round", opacity: faint ? 0.35 : 1 };
  if (points.length === 1) return s("circle", { cx: x(points[0][0]), cy: y(points[0][1]), r: 4, style: { fill: style.stroke } });
  return s("polyline", { class: faint ? "raw" : "curve", points: points.map(([to, value]) => `${x(to).toFixed(1)},${y(value).toFixed(1)}`).join(" "), style });
}

function spoken(lines, along) {
  return lines.filter(({ points }) => points.length).map(({ name, points }) => {
    const [to, value] = points[points.length - 1];
    return `${name}: ${short(value)} at ${along.title} ${short(to)}`;
  }).join("; ");
}
