// The tab Runs: the ledger, the curves of chosen runs, and the leaderboard.

import { drawChart, look } from "./chart.js";
import { $, h, number, s, say } from "./dom.js";

const POLL = 3000;
const AT_FIRST = 4;
const fixed = (digits) => (value) => number(value, digits);
const COLUMNS = [
  ["name", "Run"],
  ["status", "Status", (value) => h("span", { class: `status ${value}` }, value)],
  ["architecture", "Architecture"],
  ["parameters", "Parameters", fixed(0)],
  ["noise", "Noise"],
  ["epochs_done", "Epochs", (value, row) => (row.epochs ? `${value} / ${row.epochs}` : `${value}`)],
  ["val_loss", "Val. loss", fixed(6)],
  ["val_psnr_image", "PSNR, dB", fixed(2)],
  ["val_psnr", "Batch PSNR, dB", fixed(2)],
  ["learning_rate", "Learning rate", (value) => String(value)],
  ["images_per_second", "Images/s", fixed(0)],
  ["started", "Started", (value) => value.replace("T", " ").slice(0, 16)],
];
const NUMBERS = new Set(["parameters", "epochs_done", "val_loss", "val_psnr_image", "val_psnr", "learning_rate", "images_per_second"]);
const CURVES = {
  val_psnr: ["Validation PSNR, dB", false],
  val_loss: ["Validation loss", true],
  train_loss: ["Training loss", true],
  val_psnr_batch: ["Batch PSNR (the paper's), dB", false],
  val_f1: ["Macro F1 of the classifier", false],
  images_per_second: ["Images per second", false],
};

export function startRuns(backend) {
  return new Runs(backend);
}

/** Format a number of a table with five significant digits. */
const short = (cell) => (cell === "" ? "–" : Number.isInteger(Number(cell)) ? number(Number(cell)) : String(Number(Number(cell).toPrecision(5))));

class Runs {
  constructor(backend) {
    this.backend = backend;
    this.rows = [];
    this.curves = new Map();
    this.chosen = null;
    this.order = ["started", -1];
    this.timer = 0;
    this.shown = false;
    $("curve-of").replaceChildren(...Object.entries(CURVES).map(([key, [title]]) => h("option", { value: key }, title)));
    $("curve-of").addEventListener("change", () => this.chart());
    this.width = 0;
    new ResizeObserver(() => {
      if (this.chosen && $("chart").clientWidth && $("chart").clientWidth !== this.width) this.chart();
    }).observe($("chart"));
    for (const id of ["filter", "status"]) $(id).addEventListener("input", () => this.body());
    document.addEventListener("visibilitychange", () => this.shown && !document.hidden && this.load());
  }

  show(shown) {
    this.shown = shown;
    clearTimeout(this.timer);
    if (shown) this.load();
  }

  /** Load the ledger and the curves of the chosen runs, repeatedly while a run is training. */
  async load() {
    clearTimeout(this.timer);
    try {
      const [{ runs }, board] = await Promise.all([
        this.backend.call("runs"),
        this.board ? null : this.backend.call("leaderboard"),
      ]);
      this.rows = runs;
      if (this.chosen === null) this.chosen = this.first();
      if (board) this.leaderboard((this.board = board));
      await this.fetchCurves();
      say($("runs-alert"));
      this.table();
      this.chart();
    } catch (error) {
      say($("runs-alert"), error.message);
    }
    const live = this.rows.filter(({ status }) => status === "running").length;
    $("live").textContent = live ? `${live} training now, updated live` : "";
    if (live && this.shown && !document.hidden) this.timer = setTimeout(() => this.load(), POLL);
  }

  /** Choose the runs to show at first: those that are training, then the latest. */
  first() {
    const trained = this.rows.filter(({ epochs_done: done }) => done > 0).reverse();
    const live = ({ status }) => status === "running";
    return new Set([...trained.filter(live), ...trained.filter((row) => !live(row))].slice(0, AT_FIRST).map(({ name }) => name));
  }

  async fetchCurves() {
    const status = new Map(this.rows.map((row) => [row.name, row.status]));
    const wanted = [...this.chosen].filter((name) => status.has(name));
    await Promise.all(wanted.map(async (name) => {
      const kept = this.curves.get(name);
      if (kept && kept.status === status.get(name) && kept.status !== "running") return;
      const { curve } = await this.backend.call("run", { name });
      this.curves.set(name, { curve, status: status.get(name) });
    }));
  }

  async choose(name, wanted) {
    if (wanted) this.chosen.add(name);
    else this.chosen.delete(name);
    try {
      await this.fetchCurves();
    } catch (error) {
      say($("runs-alert"), error.message);
    }
    this.chart();
  }

  lines() {
    const key = $("curve-of").value;
    return [...this.chosen].filter((name) => this.curves.has(name)).map((name) => ({
      name,
      points: this.curves.get(name).curve.filter((row) => row.epoch && Number.isFinite(row[key])).map((row) => [row.epoch, row[key]]),
    }));
  }

  chart() {
    const lines = this.lines();
    $("curves").hidden = !this.rows.length;
    this.width = $("chart").clientWidth;
    const [title, log] = CURVES[$("curve-of").value];
    if (!lines.length) {
      $("chart").replaceChildren(h("p", { class: "muted" }, "Choose runs in the table to compare their curves."));
      $("legend").replaceChildren();
      return;
    }
    const legend = (epoch) => $("legend").replaceChildren(...lines.map(({ name, points }, at) => {
      const point = epoch === null ? points[points.length - 1] : points.find(([where]) => where === epoch);
      const value = point ? ` ${Number(point[1].toPrecision(5))}${epoch === null ? "" : ` at ${epoch}`}` : "";
      const line = s("line", { x1: 0, x2: 30, y1: 6, y2: 6, style: { ...look(at), "stroke-width": 2.5 } });
      return h("li", {}, s("svg", { viewBox: "0 0 30 12", "aria-hidden": "true" }, line), name, h("span", { class: "muted" }, value));
    }));
    drawChart($("chart"), lines, { title, log, heard: legend });
    legend(null);
  }

  table() {
    if ($("ledger").tHead === null) this.head();
    const kept = $("status").value;
    const kinds = [...new Set(this.rows.map(({ status }) => status))].sort();
    $("status").replaceChildren(h("option", { value: "" }, "any status"), ...kinds.map((kind) => h("option", { value: kind }, kind)));
    $("status").value = kinds.includes(kept) ? kept : "";
    this.body();
  }

  head() {
    const cells = COLUMNS.map(([key, title]) => h("th", { scope: "col", class: NUMBERS.has(key) ? "n" : null, "data-key": key },
      h("button", { type: "button", onclick: () => this.sort(key) }, title)));
    $("ledger").append(h("caption", { class: "unseen" }, "Runs"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "unseen" }, "Curve")), ...cells)), h("tbody"));
  }

  sort(key) {
    this.order = [key, this.order[0] === key ? -this.order[1] : NUMBERS.has(key) && key !== "val_loss" ? -1 : 1];
    this.body();
  }

  /** Show the rows that match the filter in the chosen order, with missing values last. */
  body() {
    if ($("ledger").tHead === null) return;
    const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [key, way] = this.order;
    const empty = (value) => value === null || value === undefined || value === "";
    const found = this.rows
      .filter((row) => !$("status").value || row.status === $("status").value)
      .filter((row) => words.every((word) => Object.values(row).some((value) => String(value ?? "").toLowerCase().includes(word))))
      .sort((a, b) => empty(a[key]) - empty(b[key]) || (empty(a[key]) ? 0 : a[key] < b[key] ? -way : a[key] > b[key] ? way : 0));
    for (const cell of $("ledger").tHead.querySelectorAll("[data-key]")) {
      if (cell.dataset.key === key) cell.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    }
    const focused = document.activeElement?.dataset?.run;
    $("ledger").tBodies[0].replaceChildren(...found.map((row) => this.row(row)));
    if (focused) $("ledger").querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
    $("ledger-note").textContent = !this.rows.length
      ? "There are no runs yet. Start one with daelab train --recipe quick. Its curve is updated here while it trains."
      : found.length < this.rows.length ? `${found.length} of ${this.rows.length} runs` : `${this.rows.length} runs`;
  }

  row(row) {
    const box = h("input", {
      type: "checkbox", "aria-label": `Curve of ${row.name}`, "data-run": row.name, checked: this.chosen.has(row.name),
      disabled: !row.epochs_done, onchange: (event) => this.choose(row.name, event.target.checked),
    });
    const cells = COLUMNS.map(([key, , text]) => {
      const value = row[key];
      const shown = value === null || value === undefined || value === "" ? "–" : text ? text(value, row) : String(value);
      const hint = key === "status" && row.reason ? row.reason : null;
      return h("td", { class: NUMBERS.has(key) ? "n" : null, title: hint }, shown);
    });
    return h("tr", {}, h("td", {}, box), ...cells);
  }

  leaderboard({ columns, rows }) {
    $("board-scroll").hidden = !rows.length;
    if (!rows.length) {
      $("board-note").textContent = "There is no leaderboard yet. Run daelab leaderboard --out leaderboard in the folder where the server was started.";
      return;
    }
    const numeric = columns.map((_, at) => rows.every((row) => row[at] === "" || Number.isFinite(Number(row[at]))));
    $("board").replaceChildren(
      h("caption", { class: "unseen" }, "Leaderboard"),
      h("thead", {}, h("tr", {}, ...columns.map((column, at) => h("th", { scope: "col", class: numeric[at] ? "n" : null }, column)))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((cell, at) => h("td", { class: numeric[at] ? "n" : null }, numeric[at] ? short(cell) : cell))))));
    $("board-note").textContent = "";
  }
}
