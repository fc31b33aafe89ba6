// The view of a study: parallel coordinates, the importance of each field, and the trials.

import { $, h, number } from "./dom.js";
import { linkToRun, status } from "./ledger_view.js";
import { drawParallel } from "./parallel.js";
import { DataTable } from "./table.js";

const EMPTY = "There are no studies yet. Start one with daelab explore.";
const LOADING = "The study is being loaded.";

export class StudyView {
  constructor(runs, columns) {
    this.runs = runs;
    this.psnr = columns.metrics.psnr;
    this.name = null;
    new ResizeObserver(() => this.study && $("study-parallel").clientWidth !== this.width && this.parallel()).observe($("study-parallel"));
  }

  async update(name, changed) {
    const { studies } = await this.runs.backend.call("studies");
    const chosen = name || studies[0] || "";
    $("study-list").replaceChildren(...studies.map((study) => h("a", { href: `#runs/study/${encodeURIComponent(study)}`, "aria-current": study === chosen ? "page" : null }, study)));
    const anew = chosen !== this.name;
    // The importance of the fields takes seconds to compute.
    $("study-body").hidden = anew;
    $("study-note").textContent = !studies.length ? EMPTY : anew ? LOADING : "";
    if (!chosen || (!changed && !anew)) return;
    this.study = await this.runs.backend.call("study", { name: chosen });
    this.name = chosen;
    $("study-body").hidden = false;
    $("study-note").textContent = "";
    if (anew) this.head();
    this.show();
  }

  head() {
    const { fields, trials } = this.study;
    const isNumber = (field) => trials.every(({ values }) => values[field] === undefined || typeof values[field] === "number");
    const psnr = this.psnr;
    this.table = new DataTable($("study-trials"), {
      caption: "Trials", order: ["psnr", -1],
      columns: [
        { key: "number", title: "Trial", number: true, better: "lower", width: 4.5 },
        { key: "run", title: "Run", width: 11, draw: (value) => (this.runs.rows.has(value) ? linkToRun(value) : value || "–") },
        { key: "psnr", title: psnr.title, number: true, width: 6.5, draw: (value) => (value === null ? "–" : number(value, psnr.digits)) },
        { key: "state", title: "State", width: 7.5, draw: (value, row) => Object.assign(status(value), { title: row.reason }) },
        { key: "epochs", title: "Epochs", number: true, width: 5.5 },
        ...fields.map((field) => ({ key: `values.${field}`, title: field, number: isNumber(field), width: Math.max(7, field.length * 0.6 + 1.5) })),
      ],
    });
  }

  show() {
    const { name, space, goals, fields, trials, importances, note } = this.study;
    $("study-title").textContent = name;
    const states = Map.groupBy(trials, ({ state }) => state);
    const counts = [...states].map(([state, rows]) => `${rows.length} ${state}`).join(", ");
    $("study-facts").textContent = `Search space ${space}. Goal: ${goals.join(" and ")}. Trials: ${counts || "none"}.`;
    this.table.show(trials.map((trial) => ({ ...trial, ...Object.fromEntries(fields.map((field) => [`values.${field}`, trial.values[field]])) })));
    this.parallel();
    const shares = Object.entries(importances).sort((a, b) => b[1] - a[1]);
    $("study-importance").replaceChildren(...shares.map(([field, share]) => h("div", {}, h("dt", {}, field),
      h("dd", {}, h("meter", { min: 0, max: 1, value: share, "aria-label": `Importance of ${field}` }), ` ${number(100 * share)}%`))));
    $("study-importance-note").textContent = shares.length
      ? "The share of the differences in PSNR between these runs that each field explains. It holds for the values that were tried, and for no others."
      : note || "With one field alone there is nothing to compare.";
  }

  parallel() {
    this.width = $("study-parallel").clientWidth;
    const { fields, trials } = this.study;
    drawParallel($("study-parallel"), fields, trials.filter(({ psnr, state }) => psnr !== null && state === "finished"), this.psnr, (trial) => {
      $("study-hover").textContent = trial
        ? `${trial.run}: ${number(trial.psnr, this.psnr.digits)} dB with ${fields.map((field) => `${field} ${trial.values[field] ?? "–"}`).join(", ")}`
        : "Each line is a run through the values of its fields to its PSNR. Stronger lines have a higher PSNR, and the best is orange.";
    });
  }
}
