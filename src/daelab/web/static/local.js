// The work of the static page, done in this browser by onnxruntime-web. Nothing is sent to a server.

import * as ort from "../ort/ort.wasm.bundle.min.mjs";

import { RandomStreams, addNoise, parse } from "./random_streams.js";
import { decode, encode, mix } from "./pixels.js";
import { scores } from "./scores.js";
import { megapixels } from "./words.js";

const ROOT = new URL("../", import.meta.url);
const SIDE = 256;
const FORMATS = { PNG: ["image/png", "png"], JPEG: ["image/jpeg", "jpg"], WEBP: ["image/webp", "webp"] };
const sessions = new Map();

ort.env.wasm.numThreads = 1; // more threads need headers that plain hosts do not send
ort.env.wasm.wasmPaths = { wasm: new URL("ort/ort-wasm-simd-threaded.wasm", ROOT).href };

const there = async (path) => {
  const answer = await fetch(new URL(path, ROOT));
  if (!answer.ok) throw new Error(`the file ${path} of this page is missing`);
  return answer;
};

export async function create() {
  const { about, models } = await (await there("page.json")).json();

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
    const session = await opened(metadata);
    const result = new ImageData(image.data.slice(), image.width, image.height);
    const places = tiles(image.width, image.height);
    for (const [at, place] of places.entries()) {
      await denoiseTile(session, image, result, place, metadata);
      progress(at + 1, places.length);
      await new Promise((resolve) => setTimeout(resolve)); // gives a cancellation the chance to arrive
      signal.throwIfAborted();
    }
    return result;
  }

  /** Denoise a picture. `denoised` is the result at full strength as PNG, if it is known. */
  async function denoise({ picture, clean, model, strength, format = "PNG", quality, denoised }, options) {
    const began = performance.now();
    const image = await pixelsOf(picture);
    const result = mix(image, denoised ? await decode(denoised) : await run(image, model, options), strength);
    const file = await fileOf(result, `${stem(picture.name)}_clean`, format, quality);
    const seconds = (performance.now() - began) / 1000;
    const known = clean && (await pixelsOf(clean));
    const report = {
      name: file.name, model, strength, format: format || "PNG", media: file.type, why: "", width: image.width, height: image.height, pages: 1, seconds,
      note: `saved upright as ${format || "PNG"} without metadata; the command daelab denoise keeps format and metadata`,
      scores: known ? { noisy: scores(image, known), denoised: scores(result, known) } : null,
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
    denoise,
  };
}

async function opened({ name, file }) {
  if (!sessions.has(name)) {
    const bytes = await (await there(file)).arrayBuffer();
    sessions.set(name, await ort.InferenceSession.create(new Uint8Array(bytes), { executionProviders: ["wasm"] }));
  }
  return sessions.get(name);
}

function tiles(width, height) {
  const found = [];
  for (let top = 0; top < height; top += SIDE) for (let left = 0; left < width; left += SIDE) found.push([left, top]);
  return found;
}

/** Denoise one tile. Its window includes a halo, which makes the result equal to that of the whole picture. */
async function denoiseTile(session, image, result, [left, top], { multiple, halo }) {
  const side = (start, length) => {
    const [stop, first] = [Math.min(start + SIDE, length), Math.max(0, Math.floor((start - halo) / multiple) * multiple)];
    return [first, Math.min(length, Math.ceil((stop + halo) / multiple) * multiple), stop];
  };
  const [[x0, x1, right], [y0, y1, bottom]] = [side(left, image.width), side(top, image.height)];
  const [width, height] = [x1 - x0, y1 - y0];
  const noisy = planes(image, x0, y0, width, height);
  const tensor = new ort.Tensor("float32", noisy, [1, 3, height, width]);
  const { clean } = await session.run({ noisy: tensor });
  store(result, clean.data, left, top, right - left, bottom - top, left - x0, top - y0, width);
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
