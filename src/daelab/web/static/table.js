// A table that can be sorted, and of which only the visible rows exist, so that 10,000 rows scroll smoothly.

import { h } from "./dom.js";

const SPARE = 12;
const MOST = 120;

const isEmpty = (value) => value === null || value === undefined || value === "";

export class DataTable {
  /**
   * @param table   A <table> inside a scrolling element.
   * @param columns [{key, title, number, width: in rem, draw: (value, row) => content}]; without a key nothing is sorted.
   * @param order   [key, 1 or -1].
   */
  constructor(table, { caption, columns, order }) {
    Object.assign(this, { table, columns, order, rows: [], made: new Map(), first: -1, height: 36 });
    this.scroller = table.parentElement;
    this.scroller.classList.add("list");
    this.above = h("tbody", { class: "spacer", "aria-hidden": "true" });
    this.body = h("tbody");
    this.below = h("tbody", { class: "spacer", "aria-hidden": "true" });
    const head = columns.map(({ key, title, number, unseen }) => h("th", { scope: "col", class: number ? "n" : null, "data-key": key },
      key && !unseen ? h("button", { type: "button", onclick: () => this.sort(key) }, title) : h("span", { class: "unseen" }, title)));
    const total = columns.reduce((sum, { width }) => sum + width, 0);
    table.style.setProperty("width", `max(100%, ${total}rem)`);
    table.replaceChildren(
      h("caption", { class: "unseen" }, caption),
      h("colgroup", {}, ...columns.map(({ width }) => h("col", { style: { width: `${width}rem` } }))),
      h("thead", {}, h("tr", { "aria-rowindex": 1 }, ...head)), this.above, this.body, this.below);
    let waiting = false;
    this.scroller.onscroll = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        this.draw(false);
      });
    };
  }

  sort(key) {
    const { better, number } = this.columns.find((column) => column.key === key);
    this.order = [key, this.order[0] === key ? -this.order[1] : better === "lower" || !number ? 1 : -1];
    this.show(this.rows);
  }

  /** Show rows in the chosen order, with missing values last. */
  show(rows) {
    const [key, way] = this.order;
    this.rows = [...rows].sort((a, b) => isEmpty(a[key]) - isEmpty(b[key]) || (isEmpty(a[key]) ? 0 : a[key] < b[key] ? -way : a[key] > b[key] ? way : 0));
    for (const cell of this.table.tHead.querySelectorAll("[data-key]")) {
      if (cell.dataset.key === key) cell.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    }
    this.table.setAttribute("aria-rowcount", this.rows.length + 1);
    this.draw(true);
  }

  /** Make the rows that can be seen, of a table that is never higher than the window. */
  draw(anew) {
    const all = this.rows.length;
    let [first, last] = [0, all];
    if (all > MOST) {
      const top = Math.floor(this.scroller.scrollTop / this.height) - SPARE;
      const seen = Math.ceil(innerHeight / this.height) + 2 * SPARE;
      first = Math.max(0, Math.min(top - (top % 2), all - seen)); // even, so that the stripes stay where they are
      last = Math.min(all, first + seen);
    }
    if (!anew && first === this.first) return;
    this.first = first;
    const focused = document.activeElement?.dataset?.run;
    const within = this.body.contains(document.activeElement) && document.activeElement.tagName;
    // A row that has changed is another object, so the elements of the same objects can stay.
    const before = this.made;
    this.made = new Map(this.rows.slice(first, last).map((row) => [row, before.get(row) ?? this.row(row)]));
    this.place([...this.made.values()], first);
    for (const [spacer, rows] of [[this.above, first], [this.below, all - last]]) this.space(spacer, rows);
    if (focused && within) this.body.querySelector(`${within}[data-run="${CSS.escape(focused)}"]`)?.focus();
    // An update of the values need not wait for a new layout.
    if (!anew || !before.size) this.height = this.body.rows[0]?.offsetHeight || this.height;
  }

  /** Make these elements the rows of the table. Those that stay are not touched, since each change lays rows out anew. */
  place(elements, first) {
    const kept = new Set(elements);
    for (const old of [...this.body.children]) if (!kept.has(old)) old.remove();
    elements.forEach((element, at) => {
      if (this.body.children[at] !== element) this.body.insertBefore(element, this.body.children[at] ?? null);
      const index = `${first + at + 2}`;
      if (element.getAttribute("aria-rowindex") !== index) element.setAttribute("aria-rowindex", index);
    });
  }

  /** Take the place of rows that do not exist. */
  space(spacer, rows) {
    if (spacer.rows.length !== Math.sign(rows)) spacer.replaceChildren(...(rows ? [h("tr", {}, h("td", { colspan: this.columns.length }))] : []));
    const [height, cell] = [`${rows * this.height}px`, spacer.rows[0]?.cells[0]];
    if (cell && cell.style.height !== height) cell.style.height = height;
  }

  row(row) {
    const cells = this.columns.map(({ key, number, draw }) => {
      const value = row[key];
      const shown = draw ? draw(value, row) : isEmpty(value) ? "–" : String(value);
      return h("td", { class: number ? "n" : null, title: typeof shown === "string" && shown.length > 12 ? shown : null }, shown);
    });
    return h("tr", {}, ...cells);
  }
}
