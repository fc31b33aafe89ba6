// The view of all runs: a filter, a table, and the curves of chosen runs.

import { short } from "./chart.js";
import { CurvePanel } from "./curves.js";
import { $, h, number, say } from "./dom.js";
import { readFilter } from "./filter.js";
import { DataTable } from "./table.js";

const AT_FIRST = 4;
const MOST_CURVES = 12;
const SHOWN = 13; // the first columns of the server's table
const WIDTHS = { name: 13, status: 7.5, architecture: 9, noise: 11, epochs_done: 6, started: 10, finished: 10 };
const EMPTY = "There are no runs yet. Start one with daelab train --recipe quick. Its curve is updated here while it trains.";

export const linkToRun = (name) => h("a", { href: `#runs/run/${encodeURIComponent(name)}`, "data-run": name, title: name }, name);
export const status = (value) => h("span", { class: `status ${value}` }, value);
export const time = (value) => value.replace("T", " ").slice(0, 16);

/** Return the text of a value in a column of the server. */
export function format(value, { key, digits }) {
  if (value === null || value === undefined || value === "") return "–";
  if (key === "started" || key === "finished") return time(value);
  return typeof value !== "number" ? String(value) : digits === null ? short(value) : number(value, digits);
}

export class LedgerView {
  constructor(runs, columns) {
    this.runs = runs;
    this.columns = columns.runs;
    this.chosen = null;
    this.known = new Set();
    this.panel = new CurvePanel($("curves"), columns.curves);
    const draws = {
      name: (value) => linkToRun(value),
      status: (value, row) => Object.assign(status(value), { title: row.reason ?? "" }),
      epochs_done: (value, row) => (row.epochs ? `${value} / ${row.epochs}` : `${value}`),
    };
    const box = {
      key: "", title: "Curve", width: 2.4,
      draw: (_, row) => h("input", {
        type: "checkbox", "aria-label": `Curve of ${row.name}`, "data-run": row.name, checked: this.chosen.has(row.name),
        disabled: !row.epochs_done, onchange: (event) => this.choose(row.name, event.target.checked),
      }),
    };
    this.table = new DataTable($("ledger"), {
      caption: "Runs", order: ["started", -1],
      columns: [box, ...this.columns.slice(0, SHOWN).map((column) => ({
        ...column, number: column.digits !== null || column.key === "learning_rate", width: WIDTHS[column.key] ?? Math.max(6.5, column.title.length * 0.6 + 1.5),
        draw: draws[column.key] ?? ((value) => format(value, column)),
      }))],
    });
    $("filter").addEventListener("input", () => this.rows());
    $("status").addEventListener("input", () => this.rows());
  }

  async update(_, changed) {
    this.join();
    if (changed) this.rows();
    $("curves").hidden = !this.runs.rows.size;
    await this.draw();
  }

  /** Choose the curves to show: at first those of the runs that are training and the latest, later each new training. */
  join() {
    const fresh = [...this.runs.rows.values()].filter(({ name }) => !this.known.has(name));
    if (this.chosen === null && this.runs.rows.size) {
      const trained = fresh.filter(({ epochs_done: done }) => done > 0).reverse();
      const live = ({ status: state }) => state === "running";
      this.chosen = new Set([...trained.filter(live), ...trained.filter((row) => !live(row))].slice(0, AT_FIRST).map(({ name }) => name));
    } else if (this.chosen) {
      for (const row of fresh) if (row.status === "running" && row.epochs_done && this.chosen.size < MOST_CURVES) this.chosen.add(row.name);
    }
    for (const row of fresh) if (row.epochs_done || row.status !== "running") this.known.add(row.name);
  }

  async choose(name, wanted) {
    if (wanted) this.chosen.add(name);
    else this.chosen.delete(name);
    await this.draw().catch((error) => say($("runs-alert"), error.message));
  }

  async draw() {
    this.panel.show((await this.runs.loadCurves([...(this.chosen ?? [])])).filter(({ curve }) => curve.length));
  }

  /** Show the rows that match the filter and the status. */
  rows() {
    const all = [...this.runs.rows.values()];
    const kinds = [...new Set(all.map(({ status: kind }) => kind))].sort();
    const kept = $("status").value;
    if ($("status").length !== kinds.length + 1) {
      $("status").replaceChildren(h("option", { value: "" }, "any status"), ...kinds.map((kind) => h("option", { value: kind }, kind)));
      $("status").value = kinds.includes(kept) ? kept : "";
    }
    const { test, problem } = readFilter($("filter").value, this.columns);
    const found = all.filter((row) => (!kept || row.status === kept) && test(row));
    this.table.show(found);
    const count = found.length < all.length ? `${number(found.length)} of ${number(all.length)} runs` : `${number(all.length)} run${all.length === 1 ? "" : "s"}`;
    $("ledger-note").textContent = problem || (all.length ? count : EMPTY);
    $("ledger-note").classList.toggle("problem", Boolean(problem));
  }
}
