// Parallel coordinates: each trial is a line through one axis for each field to its PSNR.

import { short } from "./chart.js";
import { h, number, s } from "./dom.js";

const [TOP, BOTTOM, SIDE, GAP, HEIGHT] = [14, 34, 56, 110, 300];
const DECADES = 1.5; // above, an axis of numbers is logarithmic
const MOST_MARKS = 8;
const LONGEST = 14;

const cut = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text);

/** Return the height of each value on an axis, from 0 to 1, and the marks of the axis. */
function makeAxis(cells, psnrs) {
  if (cells.every((cell) => typeof cell === "number") && new Set(cells).size > 1) {
    const [low, high] = [Math.min(...cells), Math.max(...cells)];
    const scale = low > 0 && Math.log10(high / low) > DECADES ? Math.log : (value) => value;
    const at = (value) => (scale(value) - scale(low)) / (scale(high) - scale(low));
    const own = [...new Set(cells)].sort((a, b) => a - b);
    return { heights: cells.map(at), marks: (own.length > MOST_MARKS ? [low, high] : own).map((value) => [at(value), short(value, 4)]) };
  }
  // Texts: those of the better runs are higher.
  const texts = cells.map((cell) => String(cell ?? "–"));
  const groups = Map.groupBy(texts.map((_, at) => at), (at) => texts[at]);
  const mean = (text) => groups.get(text).reduce((sum, at) => sum + psnrs[at], 0) / groups.get(text).length;
  const order = [...groups.keys()].sort((a, b) => mean(a) - mean(b));
  const at = new Map(order.map((text, place) => [text, order.length > 1 ? place / (order.length - 1) : 0.5]));
  return { heights: texts.map((text) => at.get(text)), marks: order.map((text) => [at.get(text), cut(text)]) };
}

/** Draw the finished trials of a study. `heard` is called with a trial, or null, when the pointer moves. */
export function drawParallel(place, fields, trials, metric, heard) {
  heard(null);
  if (!trials.length) {
    place.replaceChildren(h("p", { class: "muted" }, "No trial has finished yet."));
    return;
  }
  const psnrs = trials.map(({ psnr }) => psnr);
  const [low, high] = [Math.min(...psnrs), Math.max(...psnrs)];
  const share = (psnr) => (high > low ? (psnr - low) / (high - low) : 1);
  const last = { heights: psnrs.map(share), marks: [[0, number(low, metric.digits)], [1, number(high, metric.digits)]].slice(high > low ? 0 : 1) };
  const axes = [...fields.map((field) => makeAxis(trials.map(({ values }) => values[field]), psnrs)), last];
  const width = Math.max(place.clientWidth, 2 * SIDE + GAP * (axes.length - 1));
  const x = (at) => SIDE + (at * (width - 2 * SIDE)) / Math.max(1, axes.length - 1);
  const y = (height) => TOP + (1 - height) * (HEIGHT - TOP - BOTTOM);
  const best = psnrs.indexOf(high);
  const order = [...trials.keys()].sort((a, b) => psnrs[a] - psnrs[b]);
  const lines = order.map((at) => s("polyline", {
    class: at === best ? "best" : "trial", style: { "--share": share(psnrs[at]) },
    points: axes.map((axis, place_) => `${x(place_).toFixed(1)},${y(axis.heights[at]).toFixed(1)}`).join(" "),
    onpointerenter: (event) => { event.target.classList.add("over"); heard(trials[at]); },
    onpointerleave: (event) => { event.target.classList.remove("over"); heard(null); },
  }));
  const titles = [...fields, metric.title];
  const marks = axes.flatMap((axis, at) => {
    const [dx, anchor] = at === 0 ? [-7, "end"] : [7, "start"];
    return [
      s("line", { class: "axis", x1: x(at), x2: x(at), y1: TOP, y2: HEIGHT - BOTTOM }),
      s("text", { class: "title", x: x(at), y: HEIGHT - 10, "text-anchor": "middle" }, cut(titles[at])),
      ...axis.marks.map(([height, text]) => s("text", { class: "mark", x: x(at) + dx, y: y(height) + 4, "text-anchor": anchor }, text)),
    ];
  });
  const label = `Parallel coordinates of ${trials.length} trials over ${fields.join(", ")}. The best is ${trials[best].run} with ${number(high, metric.digits)} dB. The table below has all values.`;
  place.replaceChildren(s("svg", { class: "parallel", viewBox: `0 0 ${width} ${HEIGHT}`, style: { width: `${width}px` }, role: "img", "aria-label": label }, ...lines, ...marks));
}
