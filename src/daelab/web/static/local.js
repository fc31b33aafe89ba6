// The work of the static page, done in this browser by onnxruntime-web. Nothing is sent to a server.

import * as ort from "../ort/ort.wasm.bundle.min.mjs";

import { makeIdentifier } from "./identify.js";
import { RandomStreams, addNoise, parse } from "./random_streams.js";
import { decode, encode, limitChange, mix } from "./pixels.js";
import { scores } from "./scores.js";
import { AUTOMATIC, megapixels } from "./words.js";

const ROOT = new URL("../", import.meta.url);
const SIDE = 256;
const FORMATS = { PNG: ["image/png", "png"], JPEG: ["image/jpeg", "jpg"], WEBP: ["image/webp", "webp"] };
const sessions = new Map();

ort.env.wasm.numThreads = 1; // more threads need headers that plain hosts do not send

const there = async (path) => {
  const answer = await fetch(new URL(path, ROOT));
  if (!answer.ok) throw new Error(`the file ${path} of this page is missing`);
  return answer;
};

export async function create() {
  const { about, models, identification } = await (await there("page.json")).json();
  const identify = makeIdentifier(identification, async (name, values, shape) => {
    const session = await opened(`identify/${name}.onnx`);
    const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", values, shape) });
    return Object.fromEntries(Object.entries(outputs).map(([key, { data }]) => [key, data]));
  });

  async function pixelsOf(picture) {
    const image = await decode(picture).catch(() => {
      throw new Error(`${picture.name}: the picture is broken, or this browser does not read its format`);
    });
    if (image.width * image.height > about.pixels) {
      throw new Error(`${picture.name} has ${megapixels(image.width * image.height)} megapixels; the limit is ${megapixels(about.pixels)}`);
    }
    return image;
  }

  async function noise({ picture, text, seed }) {
    const image = await pixelsOf(picture);
    const values = planes(image, 0, 0, image.width, image.height);
    addNoise(values, parse(text, about.noises), new RandomStreams(seed, picture.name));
    store(image, values, 0, 0, image.width, image.height, 0, 0, image.width);
    return fileOf(image, `${stem(picture.name)}_noisy`);
  }

  /** Denoise a picture at full strength. */
  async function run(image, model, { signal, progress }) {
    const metadata = models.find(({ name }) => name === model);
    const session = await opened(metadata.file);
    const result = new ImageData(image.data.slice(), image.width, image.height);
    const places = tiles(image.width, image.height);
    const gray = isGray(image);
    for (const [at, place] of places.entries()) {
      await denoiseTile(session, image, result, place, { ...metadata, gray });
      progress(at + 1, places.length);
      await new Promise((resolve) => setTimeout(resolve)); // gives a cancellation the chance to arrive
      signal.throwIfAborted();
    }
    return result;
  }

  /**
   * Denoise a picture. `noise` is what was identified in it, and `denoised` the result at full strength as PNG, if they
   * are known.
   */
  async function denoise({ picture, clean, model, blend, format, quality, noise: known, denoised }, options) {
    const began = performance.now();
    const image = await pixelsOf(picture);
    const noise = model === AUTOMATIC ? known ?? (await identify(image)) : null;
    const chosen = noise ? noise.choice : model;
    const full = chosen === null ? image : denoised ? await decode(denoised) : await run(image, chosen, options);
    // A model that changes the brightness changes more than noise.
    const result = mix(image, noise && !noise.fitting ? limitChange(image, full, noise.sigma) : full, blend);
    // A picture that nothing is changed in stays as it is.
    const whole = chosen === null && !format;
    const name = `${stem(picture.name)}_clean`;
    const file = whole ? new File([picture], `${name}${picture.name.slice(stem(picture.name).length)}`, { type: picture.type }) : await fileOf(result, name, format, quality);
    const seconds = (performance.now() - began) / 1000;
    const truth = clean && (await pixelsOf(clean));
    const report = {
      name: file.name, model: chosen ?? "", ...blend, format: format || "PNG", media: file.type, why: noise?.text ?? "",
      width: image.width, height: image.height, pages: 1, seconds,
      note: whole ? "" : `saved upright as ${format || "PNG"} without metadata; the command daelab denoise keeps format and metadata`,
      scores: truth ? { noisy: scores(image, truth), denoised: scores(result, truth) } : null,
    };
    return { report, file };
  }

  return {
    setToken() {},
    about: async () => about,
    models: async () => models,
    sample: async ({ name, thumbnail }) => {
      const file = thumbnail ? `${name}-small.jpg` : about.samples.find((sample) => sample.name === name).file;
      const blob = await (await there(`samples/${file}`)).blob();
      return new File([blob], file, { type: blob.type });
    },
    preview: async ({ picture }) => fileOf(await pixelsOf(picture), stem(picture.name)),
    noise,
    inspect: async ({ picture }) => identify(await pixelsOf(picture)),
    denoise,
  };
}

async function opened(file) {
  if (!sessions.has(file)) {
    ort.env.wasm.wasmBinary ??= await loadRuntime();
    const bytes = await (await there(file)).arrayBuffer();
    sessions.set(file, await ort.InferenceSession.create(new Uint8Array(bytes), { executionProviders: ["wasm"] }));
  }
  return sessions.get(file);
}

/** Load onnxruntime, whose file is compressed, since not every host compresses what it sends. */
async function loadRuntime() {
  const { body } = await there("ort/ort-wasm-simd-threaded.wasm.packed");
  return new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

function tiles(width, height) {
  const found = [];
  for (let top = 0; top < height; top += SIDE) for (let left = 0; left < width; left += SIDE) found.push([left, top]);
  return found;
}

/** Denoise one tile. Its window includes a halo, which makes the result equal to that of the whole picture. */
async function denoiseTile(session, image, result, [left, top], { multiple, halo, gray }) {
  const side = (start, length) => {
    const [stop, first] = [Math.min(start + SIDE, length), Math.max(0, Math.floor((start - halo) / multiple) * multiple)];
    return [first, Math.min(length, Math.ceil((stop + halo) / multiple) * multiple), stop];
  };
  const [[x0, x1, right], [y0, y1, bottom]] = [side(left, image.width), side(top, image.height)];
  const [width, height] = [x1 - x0, y1 - y0];
  const noisy = planes(image, x0, y0, width, height);
  const tensor = new ort.Tensor("float32", noisy, [1, 3, height, width]);
  const { clean } = await session.run({ noisy: tensor });
  if (gray) average(clean.data);
  store(result, clean.data, left, top, right - left, bottom - top, left - x0, top - y0, width);
}

function isGray({ data }) {
  for (let at = 0; at < data.length; at += 4) if (data[at] !== data[at + 1] || data[at] !== data[at + 2]) return false;
  return true;
}

/** Make the channels equal, so that a gray picture gets no color. */
function average(values) {
  const plane = values.length / 3;
  for (let at = 0; at < plane; at++) {
    values[at] = values[at + plane] = values[at + 2 * plane] = (values[at] + values[at + plane] + values[at + 2 * plane]) / 3;
  }
}

/** Return part of a picture as values (3, height, width) in [0, 1]. */
function planes({ data, width: line }, left, top, width, height) {
  const found = new Float32Array(3 * width * height);
  for (let row = 0, out = 0; row < height; row++) {
    for (let at = 4 * ((top + row) * line + left), end = at + 4 * width; at < end; at += 4, out++) {
      for (let channel = 0; channel < 3; channel++) found[channel * width * height + out] = data[at + channel] / 255;
    }
  }
  return found;
}

/** Write part of the values (3, ?, stride) into a picture, and leave its alpha channel. */
function store({ data, width: line }, values, left, top, width, height, fromLeft, fromTop, stride) {
  const plane = values.length / 3;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const [at, from] = [4 * ((top + row) * line + left + column), (fromTop + row) * stride + fromLeft + column];
      for (let channel = 0; channel < 3; channel++) data[at + channel] = values[channel * plane + from] * 255; // the array clamps and rounds
    }
  }
}

async function fileOf(image, name, format, quality) {
  const [type, suffix] = FORMATS[format] ?? FORMATS.PNG;
  return new File([await encode(image, { type, quality: quality ?? undefined })], `${name}.${suffix}`, { type });
}

const stem = (name) => name.replace(/\.[^.]+$/, "");
