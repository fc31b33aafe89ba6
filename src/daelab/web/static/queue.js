// Many pictures: a list with thumbnails, in which each one is denoised in turn.

import { $, h } from "./dom.js";
import { save } from "./output.js";
import { Picture } from "./picture.js";
import { describeBlend, explainError, isFull } from "./words.js";

/** The settings that a result depends on, as text. */
const keyOf = ({ noise, model, blend, format, quality }) => JSON.stringify([noise, model, blend, format, quality]);
const WAITING = "waiting", WORKING = "working", DONE = "done", FAILED = "failed";

export class Queue {
  /**
   * @param tab {backend, settings, open(picture), settled()}: what the queue needs of the tab.
   */
  constructor(tab) {
    this.tab = tab;
    this.items = [];
    this.running = false;
    $("zip").addEventListener("click", () => this.download());
    $("again").addEventListener("click", () => this.restart());
  }

  get length() {
    return this.items.length;
  }

  includes(picture) {
    return this.items.some((item) => item.picture === picture);
  }

  /** Add files, and denoise them one after the other. Returns the pictures. */
  add(files) {
    const items = files.map((file) => this.item(new Picture(file)));
    this.items.push(...items);
    $("queue-list").append(...items.map(({ row }) => row));
    this.update();
    this.makeThumbnails(items);
    return items.map(({ picture }) => picture);
  }

  clear() {
    for (const item of this.items) item.stop?.abort();
    this.items = [];
    $("queue-list").replaceChildren();
    this.update();
  }

  item(picture) {
    const item = { picture, status: WAITING, note: "", file: null, key: "", url: null };
    item.image = h("img", { alt: "", height: 48 });
    item.text = h("small", {}, "waiting");
    item.button = h("button", { type: "button", class: "queued", onclick: () => this.tab.open(picture) }, item.image, h("span", {}, picture.source.name, item.text));
    item.link = h("button", { type: "button", class: "quiet", hidden: true, "aria-label": `Download the result of ${picture.source.name}`, onclick: () => save(item.file, item.file.name) }, "Download");
    item.row = h("li", {}, item.button, item.link);
    return item;
  }

  async makeThumbnails(items) {
    for (const item of items) {
      const blob = await this.tab.backend.call("thumbnail", { picture: item.picture.source }).catch(() => null);
      if (blob) item.image.src = URL.createObjectURL(blob);
    }
  }

  /** Let the tab work on a picture, which must not be denoised twice. */
  yieldTo(picture) {
    const item = this.items.find((one) => one.picture === picture);
    if (item?.status === WORKING) item.stop.abort();
    for (const one of this.items) one.button.toggleAttribute("aria-current", one === item);
  }

  /** Take over a result that the tab has made of a picture. */
  take(picture, settings) {
    const item = this.items.find((one) => one.picture === picture);
    const file = item && picture.fileOf(settings);
    if (file) this.finish(item, settings, file);
  }

  async run() {
    if (this.running) return;
    this.running = true;
    for (let item; (item = this.items.find(({ status }) => status === WAITING));) {
      await this.tab.settled();
      if (item.status === WAITING && this.items.includes(item)) await this.work(item);
    }
    this.running = false;
  }

  async work(item) {
    const { backend } = this.tab;
    const settings = this.tab.settings;
    const { signal } = (item.stop = new AbortController());
    const progress = (done, total) => this.say(item, WORKING, total > 1 ? `denoising: ${done} of ${total} tiles` : "denoising");
    this.say(item, WORKING, "denoising");
    try {
      await item.picture.prepare(backend, settings.noise, { signal });
      const file = await item.picture.makeFile(backend, settings, { signal, progress });
      this.finish(item, settings, file);
    } catch (error) {
      if (signal.aborted) this.say(item, WAITING, "waiting");
      else this.say(item, FAILED, explainError(error, item.picture.source.name).replace(`${item.picture.source.name}: `, ""));
    }
  }

  finish(item, settings, file) {
    const report = item.picture.resultOf(settings)?.report;
    Object.assign(item, { file, key: keyOf(settings) });
    item.link.hidden = false;
    const how = isFull(settings.blend) ? "" : `, ${describeBlend(settings.blend)}`;
    this.say(item, DONE, report && !report.model ? `nothing was changed: ${report.why}` : `denoised with ${report?.model ?? settings.model}${how}`);
  }

  say(item, status, text) {
    item.status = status;
    item.text.textContent = text;
    item.row.className = status;
    this.update();
  }

  /** Update what is said of all pictures together. */
  update() {
    $("queue").hidden = !this.items.length;
    const count = (status) => this.items.filter((item) => item.status === status).length;
    const failed = count(FAILED);
    $("queue-state").textContent = `${count(DONE)} of ${this.items.length} pictures denoised${failed ? `, ${failed} failed` : ""}`;
    $("zip").disabled = !count(DONE);
    $("again").hidden = !this.differs();
  }

  /** Whether a result was made with other settings than those that are chosen now. */
  differs() {
    const now = this.items.length ? keyOf(this.tab.settings) : "";
    return this.items.some(({ status, key }) => status === DONE && key !== now);
  }

  restart() {
    const now = keyOf(this.tab.settings);
    for (const item of this.items) {
      if (item.status === FAILED || (item.status === DONE && item.key !== now)) this.say(item, WAITING, "waiting");
    }
    this.run();
  }

  async download() {
    $("zip").disabled = true;
    const files = this.items.filter(({ status }) => status === DONE).map(({ file }) => file);
    const progress = (done, total) => { $("queue-state").textContent = `Packing: ${done} of ${total} pictures`; };
    try {
      save(await this.tab.backend.call("zip", { files }, { progress }), "denoised.zip");
      this.update();
    } catch (error) {
      this.update();
      $("queue-state").textContent = error.message;
    }
  }
}
