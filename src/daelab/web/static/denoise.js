// The tab Denoise: a picture is read, gets noise if asked for, and is denoised.

import { $, define, h, number, say } from "./dom.js";
import { drawHistograms } from "./histogram.js";
import { NoiseControls } from "./noise.js";
import { Viewer } from "./viewer.js";

const SHOWN = /^image\/(?!tiff)/;
const AT_ONCE = 1_500_000;
const PAUSE = 250;
const AUTOMATIC = "automatic";

export async function startDenoise(backend, kind) {
  const tab = new Denoise(backend, kind);
  await tab.start();
}

class Denoise {
  constructor(backend, kind) {
    this.backend = backend;
    this.kind = kind;
    this.viewer = new Viewer();
    this.source = null; // the picture as it was given
    this.noisy = null; // the picture to denoise
    this.key = null; // the noise settings of `noisy`
    this.job = null;
    this.timer = 0;
    this.link = null;
  }

  async start() {
    this.listen();
    try {
      [this.about, this.models] = await Promise.all([this.backend.call("about"), this.backend.call("models")]);
    } catch (error) {
      say($("alert"), error.message);
      return;
    }
    this.noise = new NoiseControls(this.about.noises, () => this.soon());
    $("formats").textContent = ` (${[...new Set(this.about.suffixes.map(plain))].join(", ")}; up to ${number(this.about.pixels / 1e6)} megapixels)`;
    $("file").accept = this.about.suffixes.join(",");
    const chosen = this.kind === "server" ? [h("option", { value: AUTOMATIC }, "Automatic (recommended)")] : [];
    $("model").replaceChildren(...chosen, ...this.models.map(({ name, origin }) => h("option", { value: name }, origin === "run" ? `${name} (your run)` : name)));
    this.describe();
    $("run").disabled = !this.source;
    document.documentElement.dataset.ready = "";
    if (this.source) this.take(this.source);
    await this.offer();
  }

  /** Show the bundled photographs as buttons. */
  async offer() {
    const buttons = await Promise.all(this.about.samples.map(async ({ name }) => {
      const file = await this.backend.call("sample", { name }).catch(() => null);
      if (!file) return null;
      const image = h("img", { src: URL.createObjectURL(file), alt: "", loading: "lazy" });
      return h("button", { type: "button", "data-sample": name, onclick: () => this.take(file, true) }, image, h("span", {}, name));
    }));
    $("samples").replaceChildren(...buttons.filter(Boolean));
    $("samples").hidden = !buttons.some(Boolean);
  }

  listen() {
    const pick = () => $("file").click();
    $("choose").addEventListener("click", pick);
    $("another").addEventListener("click", () => this.leave());
    $("file").addEventListener("change", () => {
      if ($("file").files[0]) this.take($("file").files[0]);
      $("file").value = "";
    });
    for (const place of [$("drop"), $("viewer")]) {
      place.addEventListener("dragenter", () => place.classList.add("over"));
      place.addEventListener("dragleave", (event) => place.contains(event.relatedTarget) || place.classList.remove("over"));
    }
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      for (const place of [$("drop"), $("viewer")]) place.classList.remove("over");
      if (event.dataTransfer.files[0]) this.take(event.dataTransfer.files[0]);
    });
    addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])][0];
      if (file && !$("denoise").hidden) this.take(file);
    });
    $("settings").addEventListener("submit", (event) => {
      event.preventDefault();
      this.go(true);
    });
    $("model").addEventListener("change", () => {
      this.describe();
      this.soon();
    });
    $("strength").addEventListener("input", () => {
      $("strength-now").textContent = `${Math.round($("strength").value * 100)} %`;
      this.soon();
    });
    $("cancel").addEventListener("click", () => this.job?.abort());
  }

  /** Read a picture and denoise it. */
  take(file, sample = false) {
    this.source = file;
    this.noisy = this.key = null;
    say($("alert"));
    if (!this.about) return;
    if (sample) this.noise.on(true, false);
    if (file.size > this.about.body_bytes) {
      say($("alert"), `${file.name} has ${size(file.size)}; this page accepts at most ${size(this.about.body_bytes)}`);
      return;
    }
    this.go(false);
  }

  /** Go back to the choice of a picture. */
  leave() {
    this.job?.abort();
    this.source = null;
    $("run").disabled = true;
    for (const id of ["viewer", "results", "download", "alert"]) $(id).hidden = true;
    $("drop").hidden = false;
    $("choose").focus();
  }

  soon() {
    clearTimeout(this.timer);
    if (this.source) this.timer = setTimeout(() => this.go(false), PAUSE);
  }

  /** Redo all that depends on the picture and the settings. A large picture is denoised only on request. */
  async go(asked) {
    clearTimeout(this.timer);
    this.job?.abort(new DOMException("the settings changed", "AbortError"));
    const job = (this.job = new AbortController());
    const { signal } = job;
    say($("alert"));
    this.busy("Reading");
    try {
      await this.prepare(signal);
      const [width, height] = this.viewer.size;
      if (asked || width * height <= AT_ONCE) await this.denoise(signal);
      else await this.distributions(null, signal);
    } catch (error) {
      if (this.job === job && error.name !== "AbortError") this.fail(error);
    } finally {
      if (this.job === job) this.idle();
    }
  }

  /** Make and show the noisy picture, and identify its noise. */
  async prepare(signal) {
    const noise = this.noise.value;
    const key = JSON.stringify(noise);
    $("download").hidden = true;
    if (this.key === key && this.noisy) return;
    if (noise) this.busy("Adding noise");
    const noisy = noise ? await this.call("noise", { picture: this.source, ...noise }, signal) : this.source;
    const names = [noise ? "noisy" : "input", "denoised"];
    let shown = await this.shown(noisy, signal);
    await this.viewer.show(shown, null, names).catch(async () => {
      // the backend may read what this browser does not, or say why the picture is broken
      shown = await this.call("preview", { picture: noisy }, signal);
      await this.viewer.show(shown, null, names);
    });
    signal.throwIfAborted();
    this.noisy = null;
    this.shownNoisy = shown;
    const [width, height] = this.viewer.size;
    $("what").textContent = `${this.source.name}, ${number(width)} × ${number(height)}`;
    $("drop").hidden = true;
    $("viewer").hidden = false;
    $("run").disabled = false;
    $("results").hidden = false;
    this.viewer.fit();
    define($("facts"), []);
    $("facts").hidden = true;
    await this.inspect(noisy, signal);
    [this.noisy, this.key] = [noisy, key];
  }

  async inspect(picture, signal) {
    $("inspection").replaceChildren();
    if (this.kind !== "server") return;
    this.busy("Identifying the noise");
    const found = await this.call("inspect", { picture }, signal);
    const better = found.models.filter((name) => name !== $("model").value && this.models.some((model) => model.name === name));
    const fits = $("model").value === AUTOMATIC || found.models.includes($("model").value);
    $("inspection").replaceChildren(
      h("p", {}, h("b", {}, "Identified noise: "), found.text),
      h("p", { class: "muted" }, found.advice, ...(better.length && !fits ? [" ", h("button", {
        type: "button", class: "quiet", onclick: () => {
          $("model").value = better[0];
          this.describe();
          this.go(true);
        },
      }, `Use ${better[0]}`)] : [])));
  }

  async denoise(signal) {
    const known = this.noise.value ? this.source : null;
    const began = performance.now();
    this.busy("Denoising");
    const progress = (done, total) => this.busy("Denoising", done, total);
    const values = { picture: this.noisy, clean: known, model: $("model").value, strength: Number($("strength").value) };
    const { file, report } = await this.backend.call("denoise", values, { signal, progress });
    const waited = (performance.now() - began) / 1000;
    const shown = await this.shown(file, signal);
    await this.viewer.show(this.shownNoisy, shown, [known ? "noisy" : "input", "denoised"]);
    signal.throwIfAborted();
    this.tell(report, waited);
    if (this.link) URL.revokeObjectURL(this.link);
    this.link = URL.createObjectURL(file);
    Object.assign($("download"), { href: this.link, download: file.name, hidden: false });
    $("download").replaceChildren("Download", h("small", {}, `${file.name}, ${size(file.size)}`));
    this.busy("Drawing the histograms");
    await this.distributions(shown, signal);
  }

  tell(report, waited) {
    const pixels = report.width * report.height;
    const speed = report.seconds > 0 ? `${number(pixels / report.seconds / 1e6, 2)} megapixels/s; ${number(waited, 1)} s with the transfer` : "";
    const pairs = [["Time taken", `${number(report.seconds, 2)} s`, h("small", {}, speed)]];
    if (report.scores) {
      const { noisy, denoised } = report.scores;
      const all = (scores) => scores.all ?? Object.values(scores)[0];
      const [before, after] = [all(noisy), all(denoised)];
      pairs.unshift(
        ["PSNR", decibels(after.psnr), h("small", {}, `noisy ${decibels(before.psnr)}`)],
        ["SSIM", similarity(after.ssim), h("small", {}, `noisy ${similarity(before.ssim)}`)]);
    }
    const strength = report.model ? `strength ${Math.round(report.strength * 100)} %` : "";
    pairs.push(["Model", report.model || "none", h("small", {}, [strength, report.why].filter(Boolean).join("; "))]);
    if (report.note || report.pages > 1) pairs.push(["Note", report.note || `${report.pages} pages`]);
    define($("facts"), pairs);
    $("facts").hidden = false;
  }

  async distributions(clean, signal) {
    const all = [];
    if (this.noise.value) all.push(["original", await this.shown(this.source, signal)], ["noisy", this.shownNoisy]);
    else all.push(["input", this.shownNoisy]);
    if (clean) all.push(["denoised", clean]);
    const found = await Promise.all(all.map(async ([title, blob]) => [title, await this.call("histogram", { blob }, signal)]));
    drawHistograms($("histograms"), found);
    $("distributions").hidden = false;
  }

  /** Return the picture itself, or as PNG if browsers do not show its format. */
  async shown(picture, signal) {
    return SHOWN.test(picture.type) ? picture : this.call("preview", { picture }, signal);
  }

  call(name, values, signal) {
    return this.backend.call(name, values, { signal });
  }

  /** Show the metadata of the chosen model. */
  describe() {
    const model = this.models?.find(({ name }) => name === $("model").value);
    if (!model) {
      define($("model-facts"), [["Choice", "the best model for the noise of the picture; none if it looks clean"]]);
      return;
    }
    const on = model.images ? `${number(model.images)} images of ${model.data}` : `validation images of ${model.data}`;
    define($("model-facts"), [
      ["Parameters", number(model.parameters)],
      ["PSNR", model.psnr ? `${model.psnr_noisy ? `${number(model.psnr_noisy, 2)} → ` : ""}${decibels(model.psnr)}` : "not measured"],
      ["Measured on", model.psnr ? on : "–"],
      ["Cost", `${number(model.macs_per_pixel)} MACs per pixel`],
      ["Trained under", model.noise || "unknown"],
    ]);
  }

  busy(doing, done, total) {
    $("working").hidden = false;
    $("run").disabled = true;
    const bar = $("progress");
    if (total) Object.assign(bar, { max: total, value: done });
    else bar.removeAttribute("value");
    $("doing").textContent = total > 1 ? `${doing}: ${done} of ${total} tiles` : doing;
  }

  idle() {
    $("working").hidden = true;
    $("doing").textContent = "";
    $("run").disabled = !this.source;
  }

  fail(error) {
    say($("alert"), error.message);
    if (this.noisy) return;
    this.source = null;
    $("viewer").hidden = $("results").hidden = true;
    $("drop").hidden = false;
  }
}

const plain = (suffix) => ({ ".jpeg": "JPEG", ".jpg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".tif": "TIFF", ".webp": "WebP", ".npy": ".npy" })[suffix] ?? suffix.slice(1).toUpperCase();
const size = (bytes) => (bytes < 1e6 ? `${number(Math.max(1, bytes / 1e3))} kB` : `${number(bytes / 1e6, bytes < 1e7 ? 1 : 0)} MB`);
const decibels = (value) => (value === null ? "no difference" : `${number(value, 2)} dB`);
const similarity = (value) => (value === null ? "picture too small" : number(value, 4));
