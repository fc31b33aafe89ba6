// The view of the leaderboard: one noise at a time, sortable, with pictures of each model's result.

import { $, h, number, say } from "./dom.js";
import { short } from "./chart.js";
import { DataTable } from "./table.js";

const EMPTY = "There is no leaderboard yet. Run daelab leaderboard --out leaderboard in the folder where the server was started.";
const FIRST_PICTURES = ["clean", "noisy"];

export class BoardView {
  constructor(runs) {
    this.runs = runs;
    this.seen = this.heads = "";
    $("board-noise").addEventListener("change", () => this.rows());
    $("board-crop").addEventListener("change", () => this.pictures().catch((error) => say($("runs-alert"), error.message)));
  }

  async update() {
    const board = await this.runs.backend.call("leaderboard");
    // The file is rewritten now and then. What has not changed is left as it is.
    const seen = JSON.stringify(board);
    if (seen === this.seen) return;
    this.seen = seen;
    const { columns, rows, shown, crops } = board;
    $("board-scroll").hidden = !rows.length;
    $("board-note").textContent = rows.length ? "" : EMPTY;
    const numeric = (key) => rows.every((row) => row[columns.indexOf(key)] === "" || Number.isFinite(Number(row[columns.indexOf(key)])));
    const isNumber = new Map(columns.map((key) => [key, numeric(key)]));
    this.all = rows.map((row) => Object.fromEntries(row.map((cell, at) => [columns[at], cell === "" ? null : isNumber.get(columns[at]) ? Number(cell) : cell])));
    const noises = [...new Set(this.all.map(({ noise }) => noise).filter(Boolean))];
    fill($("board-noise"), noises);
    $("board-noise").parentElement.hidden = noises.length < 2;
    if (rows.length) this.head(shown.filter(({ key }) => key !== "noise"), isNumber);
    this.crops = crops;
    fill($("board-crop"), Object.keys(crops), (name) => name.replaceAll("-", " "));
    $("board-pictures").hidden = !Object.keys(crops).length;
    this.rows();
    await this.pictures();
  }

  head(columns, isNumber) {
    const heads = JSON.stringify([columns, ...isNumber]);
    if (heads === this.heads) return;
    this.heads = heads;
    const best = columns.find(({ key, better }) => better && isNumber.get(key))?.key ?? columns[0].key;
    this.table = new DataTable($("board"), {
      caption: "Leaderboard", order: [best, columns.find(({ key }) => key === best).better === "lower" ? 1 : -1],
      columns: columns.map((column) => ({
        ...column, number: isNumber.get(column.key), width: isNumber.get(column.key) ? Math.max(6, column.title.length * 0.58 + 2.4) : 12,
        draw: (value) => (value === null ? "–" : typeof value !== "number" ? value : column.digits === null ? short(value) : number(value, column.digits)),
      })),
    });
  }

  /** Show the rows of the chosen noise. */
  rows() {
    const noise = $("board-noise").value;
    this.table?.show(this.all.filter((row) => !noise || row.noise === noise));
  }

  async pictures() {
    const crop = $("board-crop").value;
    // The pictures are in the order of the ranking. The names of their files have no special characters.
    const ranking = [...FIRST_PICTURES, ...(this.table?.rows ?? []).map(({ model }) => String(model).replace(/[^\w.,=-]/g, "_"))];
    const place = (model) => (ranking.includes(model) ? ranking.indexOf(model) : ranking.length);
    const order = [...(this.crops[crop] ?? [])].sort((a, b) => place(a) - place(b));
    const figures = await Promise.all(order.map(async (model) => {
      const picture = await this.runs.backend.call("picture", { path: `leaderboard/crops/${encodeURIComponent(crop)}/${encodeURIComponent(model)}` });
      const address = URL.createObjectURL(picture);
      return h("figure", {}, h("img", { src: address, alt: `${crop}, ${model}`, onload: () => URL.revokeObjectURL(address) }), h("figcaption", {}, model));
    }));
    if (crop === $("board-crop").value) $("board-gallery").replaceChildren(...figures);
  }
}

function fill(select, values, title = (value) => value) {
  const chosen = select.value;
  select.replaceChildren(...values.map((value) => h("option", { value }, title(value))));
  if (values.includes(chosen)) select.value = chosen;
}
