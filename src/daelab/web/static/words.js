// The words for noises, models, sizes, times and mistakes.

import { number } from "./dom.js";

export const AUTOMATIC = "automatic";
/** How a result is mixed with its source if nothing else is chosen. `chroma` null is the same as `strength`. */
export const FULL = { strength: 1, chroma: null, detail: 0 };
export const isFull = ({ strength, chroma, detail }) => strength === 1 && chroma === null && !detail;
export const describeBlend = ({ strength, chroma, detail }) =>
  [`strength ${percent(strength)}`, chroma !== null && `colors ${percent(chroma)}`, detail && `detail ${percent(detail)}`].filter(Boolean).join(", ");

const TOO_MANY = /it has ([\d,]+) pixels; at most ([\d,]+) are read/;
const PAPER = /published-code|table-1|type-[12]|gaussian\(|multiplicative\(/;
const FORMATS = { ".jpeg": "JPEG", ".jpg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".tif": "TIFF", ".webp": "WebP", ".npy": ".npy" };
const ADVICE = [
  [/\.(heic|heif)$/i, "Save it as JPEG first. An iPhone takes JPEG pictures with Settings, Camera, Formats, Most Compatible."],
  [/\.(dng|nef|nrw|cr2|cr3|crw|arw|sr2|srf|raf|orf|rw2|rwl|pef|srw|3fr|fff|iiq|dcr|kdc|mrw|mos|mef|erf|x3f)$/i, "Export it as JPEG or TIFF first."],
  [/\.(jxl|exr|fits|fit|fts)$/i, "Save it as PNG or TIFF first."],
];

export const isPaperNoise = (noise) => PAPER.test(noise) && !noise.includes("real");

/** Return what a model was made for. */
export function madeFor(noise) {
  if (isPaperNoise(noise)) return "the paper's noise (brightens ordinary photos)";
  if (/real|camera/.test(noise)) return "photographs";
  return noise || "unknown";
}

/**
 * Return why a chosen model does not fit a picture, and the better choice, or null.
 *
 * @param noise  The answer of noise identification, or null if it is not known yet.
 * @param name   The name of the chosen model.
 * @param models The models that can be chosen.
 */
export function findMisfit(noise, name, models) {
  const model = models.find((one) => one.name === name);
  if (!noise || !model?.noise) return null;
  const noiseOf = (other) => models.find((one) => one.name === other)?.noise;
  if (noise.models.some((fitting) => fitting === name || noiseOf(fitting) === model.noise)) return null;
  const better = noiseOf(noise.choice) === undefined ? AUTOMATIC : noise.choice;
  if (isPaperNoise(model.noise)) return { text: `Take care: ${name} was made for the paper's noise and changes the brightness of other pictures.`, better };
  if (noise.choice === null) return { text: `Take care: the automatic choice leaves this picture as it is; ${name} may remove detail.`, better };
  return { text: `Take care: ${name} was not made for this noise and may damage the picture.`, better };
}

/** Return a faster model for the same noise, or null. */
export function findFaster(name, models) {
  const model = models.find((one) => one.name === name);
  if (!model) return null;
  const faster = models.filter((one) => one.origin === "ships" && one.noise === model.noise && one.macs_per_pixel < model.macs_per_pixel / 2);
  return faster.sort((a, b) => (b.psnr ?? 0) - (a.psnr ?? 0))[0]?.name ?? null;
}

/** Return the text of an error, with advice if the name of the file tells what it is. */
export function explainError(error, name) {
  const [, pixels, limit] = TOO_MANY.exec(error.message)?.map((text) => Number(text.replaceAll(",", ""))) ?? [];
  if (pixels) return `${name} has ${megapixels(pixels)} megapixels; the limit is ${megapixels(limit)}.`;
  const advice = ADVICE.find(([pattern]) => pattern.test(name))?.[1];
  return advice ? `${error.message.replace(/\.$/, "")}. ${advice}` : error.message;
}

export const megapixels = (pixels) => Number((pixels / 1e6).toPrecision(4)).toLocaleString("en");
export const percent = (share) => `${Math.round(share * 100)}%`;
export const bytes = (count) => (count < 1e6 ? `${number(Math.max(1, count / 1e3))} kB` : `${number(count / 1e6, count < 1e7 ? 1 : 0)} MB`);
export const duration = (seconds) => (seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`);
export const decibels = (value) => (value === null ? "no difference" : `${number(value, 2)} dB`);
export const similarity = (value) => (value === null ? "not measured" : number(value, 4));

/** Return what to say of files that are larger than the limit, and of the files of folders that were left out. */
export function describeRefused(files, limit, left) {
  const lines = files.slice(0, 5).map(({ name, size }) => `${name} has ${bytes(size)}; the limit is ${bytes(limit)}.`);
  if (files.length > 5) lines.push(`${number(files.length - 5)} more files are too large.`);
  if (left) lines.push(`${number(left)} other ${left === 1 ? "file was" : "files were"} left out.`);
  return lines.join("\n");
}

/** Return the names of formats for their suffixes. */
export const formatsOf = (suffixes) => [...new Set(suffixes.map((suffix) => FORMATS[suffix] ?? suffix.slice(1).toUpperCase()))].join(", ");
