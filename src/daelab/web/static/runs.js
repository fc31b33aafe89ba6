// The tab Runs: its views by the address, and the ledger, which is kept up to date by increments.

import { BoardView } from "./board_view.js";
import { $, say } from "./dom.js";
import { LedgerView } from "./ledger_view.js";
import { RunView } from "./run_view.js";
import { StudyView } from "./study_view.js";

const POLL = 3000;
const IDLE_POLL = 10_000;

export function startRuns(backend) {
  return new Runs(backend);
}

/** Return the view of an address: #runs, #runs/run/NAME, #runs/leaderboard, #runs/studies or #runs/study/NAME. */
function place() {
  const [, view = "ledger", name = ""] = location.hash.slice(1).split("/");
  return { view: view === "studies" ? "study" : view, name: decodeURIComponent(name) };
}

class Runs {
  constructor(backend) {
    this.backend = backend;
    this.rows = new Map();
    this.version = "";
    this.curves = new Map();
    this.timer = 0;
    this.shown = false;
    this.views = null;
    document.addEventListener("visibilitychange", () => this.shown && !document.hidden && this.load());
  }

  /** Show or hide the tab. It is also called when the address changes. */
  async show(shown) {
    this.shown = shown;
    clearTimeout(this.timer);
    if (shown) await this.load();
  }

  async start() {
    const columns = await this.backend.call("columns");
    this.views = {
      ledger: new LedgerView(this, columns),
      run: new RunView(this, columns),
      leaderboard: new BoardView(this),
      study: new StudyView(this, columns),
    };
  }

  /** Load what has changed in the ledger, again and again while the tab is visible. */
  async load() {
    clearTimeout(this.timer);
    try {
      if (!this.views) await (this.starting ??= this.start());
      const { runs, version, whole } = await this.backend.call("runs", { since: this.version });
      if (whole) this.rows = new Map();
      for (const row of runs) this.rows.set(row.name, row);
      this.version = version;
      await this.update(whole || runs.length > 0);
      say($("runs-alert"));
    } catch (error) {
      this.starting = this.views && this.starting;
      say($("runs-alert"), error.message);
    }
    const live = this.live();
    $("live").textContent = live ? `${live} training now, updated live` : "";
    clearTimeout(this.timer);
    if (this.shown && !document.hidden) this.timer = setTimeout(() => this.load(), live ? POLL : IDLE_POLL);
  }

  live() {
    let count = 0;
    for (const { status } of this.rows.values()) count += status === "running";
    return count;
  }

  /** Show the view of the address, and let it take up what has changed. */
  async update(changed) {
    const { view, name } = place();
    const chosen = this.views[view] ? view : "ledger";
    for (const link of $("run-views").querySelectorAll("a")) {
      const current = link.hash === `#runs${chosen === "ledger" || chosen === "run" ? "" : chosen === "study" ? "/studies" : `/${chosen}`}`;
      if (current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    for (const key of Object.keys(this.views)) $(`view-${key}`).hidden = key !== chosen;
    const arrived = this.at !== location.hash;
    this.at = location.hash;
    if (arrived && this.visited) scrollTo(0, 0);
    this.visited = true;
    await this.views[chosen].update(name, changed || arrived);
  }

  /** Return the curves of runs: [{row, curve}]. Of runs that are known already, only the new epochs are loaded. */
  async loadCurves(names) {
    const wanted = names.filter((name) => this.rows.has(name));
    return Promise.all(wanted.map(async (name) => {
      const row = this.rows.get(name);
      let kept = this.curves.get(name);
      if (kept?.started !== row.started) this.curves.set(name, (kept = { started: row.started, curve: [] }));
      if (row.status === "running" || kept.row !== row) {
        const after = kept.curve.at(-1)?.epoch ?? 0;
        const { curve } = await this.backend.call("run", { name, after });
        // Another call may have loaded the same epochs meanwhile.
        const last = kept.curve.at(-1)?.epoch ?? 0;
        kept.curve.push(...curve.filter(({ epoch }) => epoch > last));
        kept.row = row;
      }
      return { row, curve: kept.curve };
    }));
  }
}
