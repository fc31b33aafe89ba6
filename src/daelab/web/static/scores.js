// PSNR and SSIM against the clean picture, as daelab.evaluation.metrics defines them, for the page without a server.

const MOST = 4_000_000;
const NAMES = ["red", "green", "blue"];
const [C1, C2] = [0.01 ** 2, 0.03 ** 2];
const RADIUS = 5;
const WINDOW = (() => {
  const raw = Array.from({ length: 2 * RADIUS + 1 }, (_, at) => Math.exp(-0.5 * ((at - RADIUS) / 1.5) ** 2));
  const sum = raw.reduce((a, b) => a + b);
  return raw.map((weight) => weight / sum);
})();

/** Return the scores of each channel and of all channels, for two ImageData of the same size. */
export function scores(image, clean) {
  const errors = [0, 1, 2].map((channel) => squaredError(image.data, clean.data, channel));
  const similar = [0, 1, 2].map((channel) => similarity(image, clean, channel));
  const mean = (values) => (values.includes(null) ? null : values.reduce((a, b) => a + b) / values.length);
  const found = { all: { psnr: decibels(mean(errors)), ssim: mean(similar) } };
  NAMES.forEach((name, at) => { found[name] = { psnr: decibels(errors[at]), ssim: similar[at] }; });
  return found;
}

const decibels = (error) => (error === 0 ? null : -10 * Math.log10(error));

function squaredError(a, b, channel) {
  let sum = 0;
  for (let i = channel; i < a.length; i += 4) sum += (a[i] - b[i]) ** 2;
  return sum / (a.length / 4) / 255 ** 2;
}

/** Return the mean SSIM of a channel, or null if the picture is smaller than the window or very large. */
function similarity(image, clean, channel) {
  const { width, height } = image;
  if (Math.min(width, height) <= 2 * RADIUS || width * height > MOST) return null;
  const [inner, rows] = [width - 2 * RADIUS, height - 2 * RADIUS];
  // Each row is blurred along its length, and the last eleven blurred rows are kept.
  const ring = Array.from({ length: WINDOW.length }, () => new Float64Array(5 * inner));
  let total = 0;
  for (let row = 0; row < height; row++) {
    blurRow(image.data, clean.data, channel, row * width, inner, ring[row % ring.length]);
    if (row < 2 * RADIUS) continue;
    const lines = WINDOW.map((_, k) => ring[(row - 2 * RADIUS + k) % ring.length]);
    for (let at = 0; at < inner; at++) {
      let mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
      for (let k = 0; k < WINDOW.length; k++) {
        const line = lines[k], weight = WINDOW[k];
        mx += weight * line[at];
        my += weight * line[inner + at];
        xx += weight * line[2 * inner + at];
        yy += weight * line[3 * inner + at];
        xy += weight * line[4 * inner + at];
      }
      const luminance = (2 * mx * my + C1) / (mx * mx + my * my + C1);
      total += (luminance * (2 * (xy - mx * my) + C2)) / (xx - mx * mx + (yy - my * my) + C2);
    }
  }
  return total / (inner * rows);
}

function blurRow(a, b, channel, start, inner, out) {
  for (let at = 0; at < inner; at++) {
    let mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (let k = 0; k < WINDOW.length; k++) {
      const i = 4 * (start + at + k) + channel;
      const x = a[i] / 255, y = b[i] / 255, weight = WINDOW[k];
      mx += weight * x;
      my += weight * y;
      xx += weight * x * x;
      yy += weight * y * y;
      xy += weight * x * y;
    }
    out[at] = mx;
    out[inner + at] = my;
    out[2 * inner + at] = xx;
    out[3 * inner + at] = yy;
    out[4 * inner + at] = xy;
  }
}
