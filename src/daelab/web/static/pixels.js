// The pixels of pictures that the browser can decode. All functions see a picture upright, as the page shows it.

/** Decode a picture to ImageData, without its color profile unless `convert` is true. */
export async function decode(blob, { convert = false } = {}) {
  const options = { colorSpaceConversion: convert ? "default" : "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(blob, options);
  const { context } = draw(bitmap, bitmap.width, bitmap.height);
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}

function draw(bitmap, width, height, left = 0, top = 0) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, -left, -top);
  bitmap.close();
  return { canvas, context };
}

// The weights of red, green and blue in the brightness, as daelab.denoising.blending has them.
const [RED, GREEN, BLUE] = [0.299, 0.587, 0.114];

/** Mix two pictures: strength 0 is the source, and 1 is the result. `chroma` is the strength for colors, or null. */
export function mix(source, result, { strength, chroma }) {
  if (strength === 1 && chroma === null) return result;
  const mixed = new ImageData(source.data.slice(), source.width, source.height);
  const [from, to, out] = [source.data, result.data, mixed.data];
  const colour = chroma ?? strength;
  for (let i = 0; i < out.length; i += 4) {
    const [red, green, blue] = [to[i] - from[i], to[i + 1] - from[i + 1], to[i + 2] - from[i + 2]];
    const brightness = (strength - colour) * (RED * red + GREEN * green + BLUE * blue);
    out[i] = from[i] + colour * red + brightness; // the array clamps and rounds
    out[i + 1] = from[i + 1] + colour * green + brightness;
    out[i + 2] = from[i + 2] + colour * blue + brightness;
    out[i + 3] = from[i + 3] + strength * (to[i + 3] - from[i + 3]);
  }
  return mixed;
}

const FAINT_CHANGE = 4; // of 255; a larger change is more than lost detail

/** Mix a denoised picture with its source, so that no more is removed than noise of this deviation, as the command does. */
export function limitChange(source, result, deviation) {
  const [from, to] = [source.data, result.data];
  let sum = 0;
  for (let i = 0; i < from.length; i += 4) for (let c = i; c < i + 3; c++) sum += (to[c] - from[c]) ** 2;
  const change = Math.sqrt(sum / (0.75 * from.length));
  return deviation < change && change < FAINT_CHANGE ? mix(source, result, { strength: (deviation / change) ** 2, chroma: null }) : result;
}

export async function encode(image, { type = "image/png", quality = 95 } = {}) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.convertToBlob({ type, quality: quality / 100 });
}

/** Return the mixture of two pictures as they are shown, as a bitmap, or as PNG. */
export async function blend({ source, result, blend: how, bitmap = false }) {
  const images = await Promise.all([source, result].map((blob) => decode(blob, { convert: true })));
  const mixed = mix(...images, how);
  return bitmap ? createImageBitmap(mixed) : encode(mixed);
}

/** Cut a part out of a picture, as a PNG file. */
export async function crop({ picture, name, part: { left, top, width, height } }) {
  const { canvas } = draw(await createImageBitmap(picture, { colorSpaceConversion: "none" }), width, height, left, top);
  return new File([await canvas.convertToBlob()], name, { type: "image/png" });
}

/** Return a small version of a picture. */
export async function thumbnail({ picture, height = 96 }) {
  const bitmap = await createImageBitmap(picture, { resizeHeight: height, resizeQuality: "medium" });
  return draw(bitmap, bitmap.width, bitmap.height).canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
}

/** Return for each channel the share of pixels in each bin, at black, and at white. */
export function histogram({ data, width, height }) {
  const bins = width * height > 64 * 64 ? 64 : 32;
  const counts = [0, 1, 2].map(() => new Float64Array(256));
  for (let i = 0; i < data.length; i += 4) {
    counts[0][data[i]]++;
    counts[1][data[i + 1]]++;
    counts[2][data[i + 2]]++;
  }
  const total = width * height;
  return counts.map((count) => {
    const shares = new Array(bins).fill(0);
    count.forEach((n, value) => { shares[Math.min(bins - 1, Math.floor((value / 255) * bins))] += n / total; });
    return { shares, black: count[0] / total, white: count[255] / total };
  });
}
