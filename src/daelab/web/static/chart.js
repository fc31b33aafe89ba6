// A small line chart in SVG.

import { h, number, s } from "./dom.js";

const [LEFT, RIGHT, TOP, BOTTOM] = [58, 14, 10, 30];
const DASHES = ["", "7 3", "2 3"];
const COLOURS = 6;

export const look = (place) => ({ stroke: `var(--c${place % COLOURS})`, "stroke-dasharray": DASHES[Math.floor(place / COLOURS) % DASHES.length], fill: "none" });

/** Return about `count` round values between two values. */
function steps(low, high, count) {
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
  return found;
}

/**
 * Draw curves by epoch.
 *
 * @param lines [{name, points: [[epoch, value], ...]}]
 * @param title What the values are.
 * @param log   Whether the axis of the values is logarithmic.
 * @param heard A function that is called with an epoch, or null, when the pointer moves.
 */
export function drawChart(place, lines, { title, log, heard }) {
  // The chart is as wide as its element, so that text keeps its size on a phone.
  const W = Math.max(260, place.clientWidth);
  const H = W < 600 ? 230 : 320;
  const points = lines.flatMap((line) => line.points);
  if (!points.length) {
    place.replaceChildren(h("p", { class: "muted" }, "There are no values yet."));
    return;
  }
  const [epochs, values] = [points.map(([epoch]) => epoch), points.map(([, value]) => value)];
  const right = Math.max(...epochs, 2);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  [low, high] = log ? [low / 1.06, high * 1.06] : [low - pad, high + pad];
  const scale = log ? Math.log : (value) => value;
  const x = (epoch) => LEFT + ((epoch - 1) / (right - 1)) * (W - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (scale(value) - scale(low)) / (scale(high) - scale(low))) * (H - TOP - BOTTOM);
  const ticks = log ? powers(low, high) : [];
  const rows = ticks.length >= 2 ? ticks : steps(low, high, 5);
  const across = steps(1, right, Math.min(10, W / 80)).filter(Number.isInteger);
  const cursor = s("line", { class: "axis", y1: TOP, y2: H - BOTTOM, hidden: true });
  const svg = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title} by epoch. ${spoken(lines)}` },
    ...rows.flatMap((value) => [
      s("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(value), y2: y(value) }),
      s("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, `${value}`),
    ]),
    ...across.map((epoch) => s("text", { x: x(epoch), y: H - BOTTOM + 17, "text-anchor": "middle" }, `${epoch}`)),
    s("text", { x: LEFT - 7, y: H - BOTTOM + 17, "text-anchor": "end" }, "epoch"),
    cursor,
    ...lines.map((line, at) => curve(line.points, at, x, y)));
  const epochAt = (event) => {
    const box = svg.getBoundingClientRect();
    const along = (((event.clientX - box.left) / box.width) * W - LEFT) / (W - LEFT - RIGHT);
    return Math.round(1 + Math.min(1, Math.max(0, along)) * (right - 1));
  };
  svg.addEventListener("pointermove", (event) => {
    const epoch = epochAt(event);
    cursor.removeAttribute("hidden");
    cursor.setAttribute("x1", x(epoch));
    cursor.setAttribute("x2", x(epoch));
    heard(epoch);
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("hidden", "");
    heard(null);
  });
  place.replaceChildren(svg);
}

function curve(points, at, x, y) {
  const style = { ...look(at), "stroke-width": 2, "stroke-linejoin": "round" };
  if (points.length === 1) return s("circle", { cx: x(points[0][0]), cy: y(points[0][1]), r: 4, style: { fill: style.stroke } });
  return s("polyline", { points: points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join(" "), style });
}

function spoken(lines) {
  return lines.filter(({ points }) => points.length).map(({ name, points }) => {
    const [epoch, value] = points[points.length - 1];
    return `${name}: ${number(value, 4)} after epoch ${epoch}`;
  }).join("; ");
}
