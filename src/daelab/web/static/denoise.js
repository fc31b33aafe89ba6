// The tab Denoise: a picture is read, gets noise if asked for, and is denoised. Its settings and results are shown.

import { makeAddress, readAddress } from "./address.js";
import { BlendControls, Mixer, bake, isSame, mixture } from "./blend.js";
import { $, h, number, say } from "./dom.js";
import { describeModel, describeNoise, describeResult } from "./facts.js";
import { drawHistograms } from "./histogram.js";
import { listenForPictures } from "./intake.js";
import { NoiseControls } from "./noise.js";
import { Output } from "./output.js";
import { Picture } from "./picture.js";
import { Progress } from "./progress.js";
import { Queue } from "./queue.js";
import { offerSamples } from "./samples.js";
import { Viewer } from "./viewer.js";
import { AUTOMATIC, FULL, describeRefused, explainError, findFaster, formatsOf, isFull, megapixels } from "./words.js";

const LARGE = 1_500_000;
const FIRST_PART = 400_000;
const PAUSE = 250;

export const startDenoise = (backend, kind) => new Denoise(backend, kind).start();

class Denoise {
  constructor(backend, kind) {
    this.backend = backend;
    this.kind = kind;
    this.viewer = new Viewer();
    this.mixer = new Mixer(backend, this.viewer);
    this.blend = new BlendControls(kind === "server", () => this.mixed());
    this.queue = new Queue(this);
    this.picture = null; // the picture that is open
    this.shown = null; // the result that is shown: {picture, key, model, blend, result, left, other}
    this.opening = null;
    this.job = null;
    this.timer = 0; // of a new result
    this.rest = 0; // of the measurements of what is shown
    this.given = null; // files that came before the page was ready
  }

  async start() {
    listenForPictures({
      take: (files, left) => this.take(files, left),
      refuse: (text) => this.refuse(text),
      accepts: (name) => this.about?.suffixes.some((suffix) => name.toLowerCase().endsWith(suffix)),
    });
    try {
      [this.about, this.models] = await Promise.all([this.backend.call("about"), this.backend.call("models")]);
    } catch (error) {
      return this.refuse(error.message);
    }
    this.progress = new Progress(() => this.job?.abort(), (model) => this.use(model));
    this.noise = new NoiseControls(this.about.noises, () => this.soon());
    $("formats").textContent = `Formats: ${formatsOf(this.about.suffixes)}. At most ${megapixels(this.about.pixels)} megapixels.`;
    $("file").accept = this.about.suffixes.join(",");
    const option = ({ name, origin }) => h("option", { value: name }, origin === "run" ? `${name} (your run)` : name);
    $("model").replaceChildren(h("option", { value: AUTOMATIC }, "Automatic (recommended)"), ...this.models.map(option));
    $("left-of").append(...this.models.map(option));
    this.output = new Output(["PNG", "JPEG", "WEBP", ...(this.kind === "server" ? ["TIFF"] : [])], {
      make: () => this.makeFile(),
      blend: () => this.mixer.makeFile(),
      address: () => this.address,
      changed: () => this.mixed(),
    });
    this.listen();
    const address = readAddress();
    this.set(address);
    document.documentElement.dataset.ready = "";
    offerSamples(this.backend, this.about.samples, (name) => this.openSample(name));
    if (this.given) this.take(...this.given);
    else if (this.about.samples.some(({ name }) => name === address.sample)) await this.openSample(address.sample, true);
  }

  listen() {
    $("another").addEventListener("click", () => this.leave());
    $("settings").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.picture) this.go();
    });
    for (const id of ["model", "left-of"]) $(id).addEventListener("change", () => this.changed());
  }

  get settings() {
    return {
      noise: this.noise.value,
      model: $("model").value,
      left: $("left-of").value,
      blend: this.blend.value,
      ...this.output.settings,
    };
  }

  get address() {
    return makeAddress(this.picture?.sample, this.settings);
  }

  /** Take over the settings of an address: texts, or null for what it does not say. */
  set({ model, noise, seed, blend }) {
    if (model && [...$("model").options].some(({ value }) => value === model)) $("model").value = model;
    if (noise) this.noise.set(noise, seed);
    this.blend.set(blend);
    this.described();
  }

  /** Set everything as for a new picture of the visitor's own, or for a sample, which gets noise. */
  reset(sample) {
    this.noise.on(sample, false);
    $("model").selectedIndex = 0;
    $("left-of").value = "";
    this.blend.set(FULL);
    this.output.reset();
    this.described();
  }

  /** Open a sample with noise, or with the settings as they are. */
  async openSample(name, keep = false) {
    try {
      await this.open(new Picture(await this.backend.call("sample", { name }), name), keep ? null : true);
    } catch (error) {
      this.refuse(error.message);
    }
  }

  /** Read files that a visitor gives. What this page does not accept is said, and changes nothing. */
  take(files, left = 0) {
    if (!this.about) return void (this.given = [files, left]);
    const limit = this.about.body_bytes;
    const fit = files.filter(({ size }) => size <= limit);
    const refused = describeRefused(files.filter(({ size }) => size > limit), limit, left);
    if (fit.length === 1 && !this.queue.length) this.open(new Picture(fit[0]));
    else if (fit.length) this.openFirst(this.queue.add(fit));
    if (refused) this.refuse(refused);
  }

  /** Open the first of several pictures that can be shown, and denoise the others after it. */
  async openFirst(pictures) {
    for (const picture of pictures) if (await this.open(picture)) break;
    this.queue.run();
  }

  /**
   * Open a picture. The one that is open stays until the new one can be shown. Returns whether it can.
   *
   * @param sample Whether it is a sample; null keeps the settings as they are.
   */
  async open(picture, sample = false) {
    this.opening?.abort();
    const { signal } = (this.opening = new AbortController());
    const queued = this.queue.includes(picture) && this.queue.includes(this.picture);
    // Settings that were made on the empty page are meant for the picture that follows.
    const keep = sample === null || queued || (!sample && !this.picture);
    const noise = keep ? this.noise.value : sample ? this.noise.settings : null;
    if (!this.job) this.progress.tell("Reading");
    say($("alert"));
    try {
      await picture.prepare(this.backend, noise, { signal, tell: (text) => this.progress.tell(text) });
      if (picture.pixels > this.about.pixels) {
        throw new Error(`${picture.source.name} has ${megapixels(picture.pixels)} megapixels; the limit is ${megapixels(this.about.pixels)}.`);
      }
      // Some browsers show half a picture, which the server refuses.
      await this.identify(picture, signal);
      signal.throwIfAborted();
    } catch (error) {
      if (signal.aborted) return true;
      if (!this.job) this.progress.end();
      this.refuse(explainError(error, picture.source.name));
      return false;
    }
    if (!keep) this.reset(sample);
    if (!queued && !this.queue.includes(picture)) this.queue.clear();
    this.picture = picture;
    await this.go(false);
    return true;
  }

  /** Go back to the choice of a picture. */
  leave() {
    this.opening?.abort();
    this.job?.abort();
    this.picture = this.shown = null;
    this.queue.clear();
    this.reset(false);
    this.output.hide();
    $("run").disabled = true;
    for (const id of ["viewer", "results", "act", "alert"]) $(id).hidden = true;
    $("inspection").replaceChildren();
    $("drop").hidden = false;
    $("choose").focus();
  }

  use(model) {
    $("model").value = model;
    this.described();
    this.go();
  }

  changed() {
    this.described();
    this.soon();
  }

  described() {
    describeModel($("model-facts"), this.models.find(({ name }) => name === $("model").value));
    this.tellNoise();
  }

  soon() {
    this.queue.update();
    clearTimeout(this.timer);
    if (this.picture) this.timer = setTimeout(() => this.go(), PAUSE);
  }

  /** Resolve once the tab denoises nothing. */
  async settled() {
    while (this.current) await this.current;
  }

  /** Redo all that depends on the picture and the settings. `tidy` removes the last error. */
  go(tidy = true) {
    if (tidy) say($("alert"));
    clearTimeout(this.timer);
    clearTimeout(this.rest);
    this.job?.abort();
    const job = (this.job = new AbortController());
    const work = this.work(this.picture, this.settings, job).finally(() => {
      if (this.current === work) this.current = null;
    });
    this.current = work;
    return work;
  }

  async work(picture, settings, job) {
    const { signal } = job;
    this.queue.yieldTo(picture);
    this.output.hide();
    this.progress.tell("Reading");
    try {
      await picture.prepare(this.backend, settings.noise, { signal, tell: (text) => this.progress.tell(text) });
      if (this.shown?.picture !== picture || this.shown.key !== picture.key) this.showSource(picture);
      await this.identify(picture, signal);
      this.tellNoise();
      await this.showFirstPart(picture, settings.model, signal);
      const baked = bake(settings.blend);
      const result = await this.denoise(picture, settings.model, baked, signal);
      const other = settings.left ? await this.denoise(picture, settings.left, baked, signal) : null;
      signal.throwIfAborted();
      this.shown = { picture, key: picture.key, model: settings.model, blend: settings.blend, result, left: settings.left, other };
      this.present();
      this.queue.take(picture, this.settings);
      this.progress.tell("Drawing the histograms");
      await this.measure(signal);
    } catch (error) {
      if (this.job !== job) return;
      if (!signal.aborted) this.refuse(explainError(error, picture.source.name));
      this.restore();
    } finally {
      this.end(job);
    }
  }

  async identify(picture, signal) {
    if (picture.noise) return;
    this.progress.tell("Identifying the noise");
    await picture.identify(this.backend, { signal });
  }

  end(job) {
    if (this.job !== job) return;
    this.job = null;
    this.progress.end();
  }

  /** Show a picture before it is denoised. */
  showSource(picture) {
    this.shown = null;
    for (const id of ["drop", "facts", "distributions"]) $(id).hidden = true;
    for (const id of ["viewer", "results", "act"]) $(id).hidden = false;
    this.viewer.show({ source: picture.shown }, { size: picture.size, names: [picture.clean ? "Noisy" : "Original", "Denoised"] });
    this.viewer.fit();
    $("what").textContent = `${picture.source.name}, ${picture.size.map((side) => number(side)).join(" × ")}`;
  }

  /** Denoise the visible part of a large picture first, since the whole takes long. */
  async showFirstPart(picture, model, signal) {
    const name = model === AUTOMATIC ? picture.noise?.choice : model;
    if (!name || picture.pixels <= LARGE || picture.resultOf({ model, blend: FULL }) || this.shown) return;
    const part = this.viewer.visible(FIRST_PART);
    this.progress.tell("Denoising the middle first");
    const cut = await this.backend.call("crop", { picture: picture.shown, name: "part.png", part }, { signal });
    const { file } = await this.backend.call("denoise", { picture: cut, model: name, blend: FULL }, { signal });
    this.viewer.showPart(file, [part.left, part.top], [part.width, part.height]);
  }

  denoise(picture, model, blend, signal) {
    const name = model === AUTOMATIC ? picture.noise?.choice : model;
    this.progress.start("Denoising", findFaster(name, this.models));
    return picture.denoise(this.backend, model, blend, { signal, progress: (done, total) => this.progress.count(done, total) });
  }

  /** Show the result again after a failure. Without one, the picture alone. */
  restore() {
    if (this.shown) {
      this.blend.set(this.shown.blend);
      this.present();
    } else this.viewer.showPart(null);
    if (!this.shown && !$("viewer").hidden) this.viewer.label([$("tag-before").textContent, ""], true);
  }

  /** Show a result with its facts and its file. */
  present() {
    const { picture, result, left, other } = this.shown;
    const unchanged = !result.report.model;
    const source = ($("left-of").options[0].text = picture.clean ? "Noisy" : "Original");
    const names = left ? [left, result.report.model] : [unchanged ? "Nothing was changed" : source, "Denoised"];
    this.viewer.show({ source: picture.shown, result: result.shown, other: other?.shown }, { size: picture.size, names, single: unchanged && !other });
    this.mixed();
  }

  /** Show the result as the sliders say. */
  mixed() {
    const { blend, format, quality } = this.settings;
    this.queue.update();
    if (!this.shown) return;
    const { picture, model, result, other } = this.shown;
    if (!isSame(bake(blend), bake(this.shown.blend))) {
      this.output.hide(); // until the server has mixed it
      this.soon();
      return;
    }
    this.shown.blend = blend;
    this.mixer.show({ source: picture.shown, result: result.shown, other: other?.shown }, blend);
    this.tell();
    this.output.offer(picture.fileOf({ model, blend, format, quality }));
    if (this.job) return;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.measure(), PAUSE);
  }

  tell() {
    const { picture, blend, result: { report, waited }, other, measured } = this.shown;
    const scores = isFull(mixture(blend)) ? report.scores : measured && isSame(measured.blend, blend) ? measured.scores : null;
    describeResult($("facts"), { report, blend, waited, other: other?.report ?? null, scored: Boolean(picture.clean && report.model), scores });
    $("facts").hidden = false;
  }

  /** Draw the histograms of what is shown, and measure it if the clean picture is known. */
  async measure(signal) {
    const { shown } = this;
    if (!shown) return;
    history.replaceState(null, "", this.address);
    const { picture, result, blend } = shown;
    const histogram = async (title, source) => [title, (await this.backend.call("measure", { source }, { signal })).histogram];
    picture.histograms ??= {};
    if (picture.histograms.key !== picture.key) {
      const all = [histogram(picture.clean ? "noisy" : "original", picture.shown)];
      if (picture.clean) all.unshift(histogram("original", picture.original));
      picture.histograms = { key: picture.key, all: await Promise.all(all) };
    }
    const drawn = [...picture.histograms.all];
    if (result.report.model) {
      const clean = !isFull(mixture(blend)) && picture.clean ? picture.original : null;
      const found = await this.backend.call("measure", { source: picture.shown, result: result.shown, blend: mixture(blend), clean }, { signal });
      // The settings may have changed meanwhile.
      if (this.shown !== shown || !isSame(this.settings.blend, blend)) return;
      drawn.push(["denoised", found.histogram]);
      shown.measured = { blend, scores: found.scores };
      this.tell();
    }
    drawHistograms($("histograms"), drawn);
    $("distributions").hidden = false;
  }

  tellNoise() {
    if (!this.picture) return;
    describeNoise($("inspection"), {
      noise: this.picture.noise, model: $("model").value, models: this.models, use: (name) => this.use(name),
    });
  }

  /** Make the file for the settings, with progress, and return it, or null if it is cancelled. */
  async makeFile() {
    const { picture, model } = this.shown;
    const job = (this.job = new AbortController());
    this.progress.start("Making the file", null);
    try {
      return await picture.makeFile(this.backend, { ...this.settings, model }, { signal: job.signal, progress: (done, total) => this.progress.count(done, total) });
    } catch (error) {
      if (!job.signal.aborted) this.refuse(explainError(error, picture.source.name));
      return null;
    } finally {
      this.end(job);
    }
  }

  /** Say what is wrong, where it is seen. The picture that is open stays. */
  refuse(text) {
    say($("alert"), text);
    $("alert").scrollIntoView({ block: "nearest" });
  }
}
