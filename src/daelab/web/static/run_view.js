// The page of a run: its scores, curves, samples, recipe, environment and commands.

import { CurvePanel } from "./curves.js";
import { $, define, h, number, say } from "./dom.js";
import { format, status } from "./ledger_view.js";

const FACTS = ["val_psnr_image", "val_loss", "val_psnr", "val_f1", "epochs_done", "seconds", "images_per_second", "parameters", "architecture", "noise", "started", "finished"];
const SUGGESTED = 200;

/** Format seconds as 2 h 5 min, 3 min 20 s or 14 s. */
function duration(seconds) {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.round(seconds % 60)];
  return hours ? `${number(hours)} h ${minutes} min` : minutes ? `${minutes} min ${rest} s` : `${Number(seconds.toPrecision(2))} s`;
}

/** Return the parts of a dotted name, between which a line may end. */
const breakable = (key) => key.split(/(?<=\.)/).flatMap((part, at) => (at ? [h("wbr"), part] : [part]));

const path = (name, rest) => `runs/${encodeURIComponent(name)}/${rest}`;

export class RunView {
  constructor(runs, columns) {
    this.runs = runs;
    this.columns = new Map(columns.runs.map((column) => [column.key, column]));
    this.canStop = columns.can_stop;
    this.name = null;
    this.details = new Map();
    this.panel = new CurvePanel($("run-curves"), columns.curves, "run-");
    $("run-other").addEventListener("change", () => this.compare());
    $("run-only").addEventListener("change", () => this.recipe());
    $("run-stop").addEventListener("click", () => $("stop-dialog").showModal());
    $("stop-dialog").addEventListener("close", () => $("stop-dialog").returnValue === "stop" && this.stop());
    $("run-report").addEventListener("click", (event) => this.report(event));
  }

  async update(name, changed) {
    const row = this.runs.rows.get(name);
    $("run-title").textContent = name;
    $("run-body").hidden = !row;
    if (!row) {
      for (const part of ["report", "study", "stop"]) $(`run-${part}`).hidden = true;
      this.name = null;
      $("run-status").replaceChildren();
      throw new Error(`There is no run ${name}.`);
    }
    if (name !== this.name) {
      this.name = name;
      this.details.clear();
      $("run-other").value = "";
      $("run-done").textContent = "";
      // What belongs to another run must not be seen until this one's details are there.
      for (const part of ["report", "study", "samples", "commands", "recipe", "environment"]) $(`run-${part}`).hidden = true;
      this.panel.show([]);
    }
    if (changed) {
      // The samples and the commands change with the run.
      this.details.delete(name);
      this.facts(row);
      const named = [...this.runs.rows.keys()].filter((other) => other !== name);
      $("run-names").replaceChildren(...named.slice(-SUGGESTED).reverse().map((value) => h("option", { value })));
    }
    if (!this.details.has(name)) {
      this.details.set(name, await this.runs.backend.call("details", { name }));
      if (name !== this.name) return;
      this.show(this.details.get(name));
    }
    await this.curves();
  }

  facts(row) {
    $("run-status").replaceChildren(status(row.status));
    say($("run-reason"), row.reason ?? "");
    $("run-note").textContent = row.comments ?? "";
    $("run-stop").hidden = !(this.canStop && row.status === "running");
    $("stop-name").textContent = row.name;
    const shown = { seconds: (value) => duration(value), epochs_done: (value) => (row.epochs ? `${value} of ${row.epochs}` : `${value}`) };
    const known = FACTS.filter((key) => row[key] !== null && row[key] !== "");
    define($("run-facts"), known.map((key) => [this.columns.get(key).title, shown[key]?.(row[key]) ?? format(row[key], this.columns.get(key))]));
  }

  show(details) {
    const { environment, commands, samples, report, study } = details;
    $("run-report").hidden = !report;
    $("run-report").href = `api/${path(this.name, "report")}`;
    $("run-study").hidden = !study;
    if (study) $("run-study").replaceChildren("Trial of the study ", h("a", { href: `#runs/study/${encodeURIComponent(study)}` }, study));
    $("run-commands").hidden = !Object.keys(commands).length;
    $("run-command-list").replaceChildren(...Object.entries(commands).map(([title, text]) => h("li", {},
      h("span", { class: "muted" }, title), h("code", {}, text),
      h("button", { type: "button", class: "quiet", "aria-label": `Copy the command: ${title}`, onclick: (event) => copy(event.target, text) }, "Copy"))));
    $("run-environment").hidden = !Object.keys(environment).length;
    define($("run-environment-list"), Object.entries(environment).map(([key, text]) => [key.replaceAll("_", " ").replace("versions.", ""), text]));
    this.samples(samples);
    this.recipe();
  }

  /** Show the sample images of each part as one strip. */
  async samples(parts) {
    const [name, run] = [this.name, Object.entries(parts)];
    $("run-samples").hidden = !run.length;
    const strips = await Promise.all(run.map(async ([part, count]) => {
      const label = part === "denoised" ? "best network" : part.replace("epoch_", "epoch ");
      const picture = await this.runs.backend.call("picture", { path: path(name, `samples/${part}`) });
      const address = URL.createObjectURL(picture);
      const image = h("img", { src: address, alt: `${count} sample images: ${label}`, onload: () => URL.revokeObjectURL(address) });
      return h("div", { class: "strip" }, h("span", {}, label), image);
    })).catch(() => []);
    if (name === this.name) $("run-strips").replaceChildren(...strips);
  }

  async curves() {
    const names = [this.name, ...(this.runs.rows.has($("run-other").value) ? [$("run-other").value] : [])];
    this.panel.show(await this.runs.loadCurves(names));
  }

  /** Compare with the run that was named. */
  async compare() {
    const other = $("run-other").value;
    const exists = this.runs.rows.has(other);
    $("run-unknown").textContent = other && !exists ? `There is no run ${other}.` : "";
    try {
      if (exists) this.details.set(other, await this.runs.backend.call("details", { name: other }));
      this.recipe();
      await this.curves();
    } catch (error) {
      say($("runs-alert"), error.message);
    }
  }

  recipe() {
    const mine = this.details.get(this.name)?.recipe ?? {};
    const other = this.runs.rows.has($("run-other").value) ? this.details.get($("run-other").value)?.recipe : null;
    $("run-recipe").hidden = !Object.keys(mine).length;
    $("run-only").disabled = !other;
    const keys = [...new Set([...Object.keys(mine), ...Object.keys(other ?? {})])];
    const differs = (key) => other && mine[key] !== other[key];
    const shown = keys.filter((key) => !other || !$("run-only").checked || differs(key));
    const cell = (value) => h("td", {}, value === undefined || value === null || value === "" ? "–" : String(value));
    $("run-fields").replaceChildren(
      h("caption", { class: "unseen" }, "Recipe"),
      h("thead", {}, h("tr", {}, ...["Field", this.name, ...(other ? [$("run-other").value] : [])].map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, ...shown.map((key) => h("tr", { class: differs(key) ? "differs" : null }, h("th", { scope: "row" }, ...breakable(key)), cell(mine[key]), other && cell(other[key])))));
    const count = keys.filter(differs).length;
    $("run-difference").textContent = !other ? "" : count ? `${count} field${count === 1 ? " differs" : "s differ"}.` : "The recipes are the same.";
  }

  async stop() {
    try {
      await this.runs.backend.call("stop", { name: this.name });
      $("run-done").textContent = "The training was told to stop. It saves its state after this batch.";
    } catch (error) {
      $("run-done").textContent = error.message;
    }
  }

  /** Without a token, the report opens in a new tab. A link cannot carry a token, so with one it is downloaded. */
  async report(event) {
    if (!sessionStorage.getItem("token")) return;
    event.preventDefault();
    const page = await this.runs.backend.call("picture", { path: path(this.name, "report") });
    const address = URL.createObjectURL(page);
    h("a", { href: address, download: `${this.name}.html` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }
}

/** Copy a text, or select it where the browser does not allow that. */
async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } catch {
    getSelection().selectAllChildren(button.previousSibling);
  }
}
