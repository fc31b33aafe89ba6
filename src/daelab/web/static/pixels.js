// The pixels and the histogram of a picture that the browser can decode.

/** Decode a picture to ImageData as it is stored, without its orientation and color profile. */
export async function decode(blob) {
  const options = { colorSpaceConversion: "none", imageOrientation: "none", premultiplyAlpha: "none" };
  // Firefox does not know "none" as an orientation.
  const bitmap = await createImageBitmap(blob, options).catch(() => createImageBitmap(blob));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** Return for each channel the share of pixels in each bin, at black, and at white. */
export async function histogram(blob) {
  const { data, width, height } = await decode(blob);
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
