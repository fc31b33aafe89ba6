// Histograms of pictures, as in Figures 1 and 7 of the paper.

import { h, s } from "./dom.js";

const [W, H, LEFT, BOTTOM] = [260, 120, 34, 18];
const CHANNELS = ["red", "green", "blue"];

/** Draw histograms on one scale into `place`, from pairs of a title and the result of `pixels.histogram`. */
export function drawHistograms(place, found) {
  // The first and last bin hold the clipped values, which would flatten all other bars.
  const inner = found.flatMap(([, channels]) => channels.flatMap(({ shares }) => shares.slice(1, -1)));
  const top = 1.15 * Math.max(...inner, 1.5 / 64);
  place.replaceChildren(...found.map(([title, channels]) => one(title, channels, top)));
}

function one(title, channels, top) {
  const bins = channels[0].shares.length;
  const x = (bin) => LEFT + (bin / bins) * (W - LEFT - 4);
  const y = (share) => (H - BOTTOM) * (1 - Math.min(share, top) / top);
  const lines = channels.map(({ shares }, at) => {
    const path = shares.map((share, bin) => `V${y(share).toFixed(1)}H${x(bin + 1).toFixed(1)}`).join("");
    const style = { stroke: `var(--${CHANNELS[at]})`, fill: `var(--${CHANNELS[at]})`, "fill-opacity": 0.1 };
    return s("path", { d: `M${x(0)},${H - BOTTOM}${path}V${H - BOTTOM}`, style });
  });
  const ticks = [0, 0.5, 1].map((value) =>
    s("text", { x: x(value * bins), y: H - 4, "text-anchor": value === 1 ? "end" : value ? "middle" : "start" }, `${value}`));
  const half = Number((top / 2).toPrecision(1));
  const scale = [
    s("line", { class: "grid", x1: LEFT, x2: W - 4, y1: y(half), y2: y(half) }),
    s("text", { x: LEFT - 4, y: y(half) + 4, "text-anchor": "end" }, `${Number((half * 100).toPrecision(2))}%`),
  ];
  const label = `Distribution of the ${title} picture's values: ${channels.map((channel, at) => `${CHANNELS[at]} around ${middle(channel.shares)}`).join(", ")}`;
  return h("div", {}, h("h2", {}, title), h("p", {}, clipped(channels)),
    s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label }, ...scale,
      s("line", { class: "axis", x1: LEFT, x2: W - 4, y1: H - BOTTOM, y2: H - BOTTOM }), ...lines, ...ticks));
}

function middle(shares) {
  let sum = 0;
  const at = shares.findIndex((share) => (sum += share) >= 0.5);
  return ((at + 0.5) / shares.length).toFixed(2);
}

/** Return the share of each channel at black and at white, if it is at least one percent. */
function clipped(channels) {
  return [["black", "at 0"], ["white", "at 1"]].flatMap(([key, text]) => {
    const shares = channels.map((channel) => channel[key]);
    return Math.max(...shares) < 0.01 ? [] : [`${text}: ${shares.map((share, at) => `${"RGB"[at]} ${Math.round(share * 100)}%`).join(" ")}`];
  }).join(" · ");
}
