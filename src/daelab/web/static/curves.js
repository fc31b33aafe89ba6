// A chart of curves of runs, with its controls: which values, against what, smoothing, and the scale.

import { drawChartFile } from "./chart_file.js";
import { drawChart, look, nearest, short } from "./chart.js";
import { h, number, s } from "./dom.js";
import { save } from "./output.js";

const UNITS = [[1, "seconds"], [60, "minutes"], [3600, "hours"]];

/** The kinds of horizontal axis: a title, and the place of each epoch of a run. */
const ALONG = {
  epoch: { title: "epoch", whole: true, of: (curve) => curve.map(({ epoch }) => epoch) },
  step: {
    title: "step",
    whole: true,
    of: (curve, row) => curve.map(({ epoch }) => epoch * Math.ceil(row.train_size / row.batch_size)),
  },
  time: { title: "time", of: (curve) => { let sum = 0; return curve.map(({ seconds }) => (sum += seconds)); } },
};

/** Return the exponential moving average of points; each value counts `share` as much as the next one. */
function smooth(points, share) {
  let [sum, weight] = [0, 0];
  return points.map(([x, value]) => {
    sum = sum * share + value * (1 - share);
    weight = weight * share + (1 - share); // the first values would else be drawn towards zero
    return [x, sum / weight];
  });
}

export class CurvePanel {
  /** Build the chart in an element. `prefix` makes the ids unique on the page. */
  constructor(place, columns, prefix = "") {
    this.columns = columns;
    this.runs = [];
    const id = (name) => `${prefix}${name}`;
    const choice = (name, label, options) => {
      const field = h("select", { id: id(name), onchange: () => this.draw() }, ...options.map(([value, text]) => h("option", { value }, text)));
      return [field, h("div", { class: "row" }, h("label", { for: id(name) }, label), field)];
    };
    let fields;
    [this.key, fields] = choice("curve-of", "Curve", columns.map(({ key, title }) => [key, title]));
    const controls = [fields];
    [this.along, fields] = choice("curve-along", "by", Object.keys(ALONG).map((key) => [key, key]));
    controls.push(fields);
    this.smoothing = h("input", { type: "range", id: id("curve-smooth"), min: 0, max: 0.95, step: 0.05, value: 0, oninput: () => this.draw() });
    this.log = h("input", { type: "checkbox", id: id("curve-log"), onchange: () => this.draw() });
    controls.push(
      h("div", { class: "row" }, h("label", { for: id("curve-smooth") }, "Smoothing"), this.smoothing),
      h("label", { class: "check" }, this.log, "Log scale"),
      h("button", { type: "button", class: "quiet", id: id("curve-save"), onclick: () => this.save() }, "Save as PNG"));
    this.key.addEventListener("change", () => this.rescale());
    this.chart = h("div", { id: id("chart"), class: "chart", tabindex: 0, role: "group", "aria-label": "Curves. The left and right arrow keys read their values." });
    this.legend = h("ul", { id: id("legend"), class: "legend", "aria-label": "Runs in the chart" });
    place.append(h("div", { class: "row controls" }, ...controls), this.chart, this.legend);
    this.rescale();
    new ResizeObserver(() => this.chart.clientWidth && this.chart.clientWidth !== this.width && this.draw()).observe(this.chart);
  }

  get column() {
    return this.columns.find(({ key }) => key === this.key.value);
  }

  rescale() {
    this.log.checked = this.column.log;
    this.draw();
  }

  /** Show runs: [{row, curve}], in the order of their colours. */
  show(runs) {
    this.runs = runs;
    this.draw();
  }

  lines() {
    const { key } = this.column;
    const along = ALONG[this.along.value];
    const lines = this.runs.map(({ row, curve }) => {
      const x = along.of(curve, row);
      return { name: row.name, points: curve.map((epoch, at) => [x[at], epoch[key]]).filter((point) => point.every(Number.isFinite)) };
    });
    if (along !== ALONG.time) return [lines, along];
    const longest = Math.max(0, ...lines.map(({ points }) => points.at(-1)?.[0] ?? 0));
    const [size, title] = UNITS.findLast(([unit]) => longest >= 2 * unit) ?? UNITS[0];
    for (const line of lines) line.points = line.points.map(([x, value]) => [x / size, value]);
    return [lines, { title }];
  }

  /** Save the chart as it is. */
  async save() {
    const chart = this.chart.querySelector("svg");
    if (!chart) return;
    const names = [...this.legend.children].map((item) => [item.textContent, item.querySelector("svg")]);
    const { title, key } = this.column;
    save(await drawChartFile(chart, `${title} by ${this.along.value}`, names), `${key}.png`);
  }

  draw() {
    this.width = this.chart.clientWidth;
    if (!this.runs.length) {
      this.chart.replaceChildren(h("p", { class: "muted" }, "Choose runs in the table to compare their curves."));
      this.legend.replaceChildren();
      return;
    }
    const [lines, along] = this.lines();
    const share = Number(this.smoothing.value);
    const drawn = share ? lines.map((line) => ({ ...line, points: smooth(line.points, share), raw: line.points })) : lines;
    const { title, digits } = this.column;
    const legend = (to) => this.legend.replaceChildren(...drawn.map(({ name, points }, at) => {
      const point = to === null ? points.at(-1) : points.length ? nearest(points, to) : null;
      const line = s("line", { x1: 0, x2: 30, y1: 6, y2: 6, style: { ...look(at), "stroke-width": 2.5 } });
      const said = point ? ` ${digits === null ? short(point[1]) : number(point[1], digits)}${to === null ? "" : ` at ${along.title} ${short(point[0])}`}` : "";
      return h("li", {}, s("svg", { viewBox: "0 0 30 12", "aria-hidden": "true" }, line), name, h("span", { class: "muted" }, said));
    }));
    drawChart(this.chart, drawn, { title: share ? `${title}, smoothed` : title, log: this.log.checked, along, heard: legend });
    legend(null);
  }
}
