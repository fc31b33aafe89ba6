// A picture and all that is known of it: its noisy version, the identified noise, and the results by model.

import { FULL, isFull } from "./words.js";

const SHOWN = /^image\/(?!tiff)/;

export class Picture {
  /** @param source The file. @param sample The name of the sample that it is, or "". */
  constructor(source, sample = "") {
    this.source = source;
    this.sample = sample;
    this.key = null; // the noise settings of `noisy`
  }

  /** Make the noisy picture, and a version of it that the browser can show. An error leaves the picture as it was. */
  async prepare(backend, noise, { signal, tell = () => {} }) {
    const key = JSON.stringify(noise);
    if (this.key === key) return;
    const call = (name, values) => backend.call(name, values, { signal });
    if (noise) tell("Adding noise");
    const noisy = noise ? await call("noise", { picture: this.source, ...noise }) : this.source;
    const [shown, size] = await showable(noisy, call);
    const original = noise ? (await showable(this.source, call))[0] : shown;
    signal.throwIfAborted();
    Object.assign(this, { key, noisy, shown, size, original, noise: null, results: new Map(), detailed: new Map(), files: new Map() });
  }

  get pixels() {
    return this.size[0] * this.size[1];
  }

  /** The noise-free picture, if it is known. */
  get clean() {
    return this.noisy === this.source ? null : this.source;
  }

  async identify(backend, { signal }) {
    this.noise ??= await backend.call("inspect", { picture: this.noisy }, { signal });
    return this.noise;
  }

  /** The results for this mixture. Those with recovered detail differ at each place of the slider, so few are kept. */
  resultsOf(blend) {
    return blend.detail ? this.detailed : this.results;
  }

  resultOf({ model, blend }) {
    return this.resultsOf(blend)?.get(keyOf(model, blend));
  }

  /** Denoise the picture: the file, its report, and a version of it that the browser can show. */
  async denoise(backend, model, blend, { signal, progress }) {
    const results = this.resultsOf(blend);
    const key = keyOf(model, blend);
    if (!results.has(key)) {
      const began = performance.now();
      const values = { picture: this.noisy, clean: this.clean, model, blend, noise: this.noise };
      const { file, report } = await backend.call("denoise", values, { signal, progress });
      const [shown] = await showable(file, (name, given) => backend.call(name, given, { signal }));
      results.set(key, { file, report, shown, waited: (performance.now() - began) / 1000 });
      if (blend.detail && results.size > 2) results.delete(results.keys().next().value);
    }
    return results.get(key);
  }

  /** Return the file for these settings if it is there, or null. */
  fileOf({ model, blend, format, quality }) {
    if (!format && (isFull(blend) || blend.detail)) return this.resultOf({ model, blend })?.file ?? null;
    return this.files?.get(keyOf(model, blend, format, quality)) ?? null;
  }

  /** Return the file of a mixture, in a format and quality; "" is the picture's own format. */
  async makeFile(backend, { model, blend, format, quality }, options) {
    const { files, noisy } = this;
    if (!format && (isFull(blend) || blend.detail)) return (await this.denoise(backend, model, blend, options)).file;
    const key = keyOf(model, blend, format, quality);
    if (!files.has(key)) {
      const denoised = this.resultOf({ model, blend: FULL })?.file;
      const { file } = await backend.call("denoise", { picture: noisy, model, blend, format, quality, noise: this.noise, denoised }, options);
      files.clear(); // the last one is kept
      files.set(key, file);
    }
    return files.get(key);
  }
}

const keyOf = (...values) => JSON.stringify(values);

/** Return the picture itself, or as PNG if the browser does not show its format, and its size. */
async function showable(picture, call) {
  if (SHOWN.test(picture.type)) {
    const size = await sizeOf(picture).catch(() => null);
    if (size) return [picture, size];
  }
  // The backend may read what this browser does not, or says why the picture is broken.
  const shown = await call("preview", { picture });
  const size = await sizeOf(shown).catch(() => null);
  if (!size) throw new Error(`${picture.name}: this browser cannot show the picture`);
  return [shown, size];
}

async function sizeOf(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await image.decode();
    return [image.naturalWidth, image.naturalHeight];
  } finally {
    URL.revokeObjectURL(image.src);
  }
}
