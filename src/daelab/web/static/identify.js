// The identification of noise in this browser, as daelab.denoising.noise_identification does it. The networks and their
// statistics are ONNX graphs that daelab writes. Here a picture is cut into parts, and a model is chosen.

const [PATCH, MOST_PATCHES] = [32, 16];
const [TILE, TILES] = [128, 12];
const BLOCK = 8; // of JPEG, on whose grid all parts begin

/**
 * Return an async function of an ImageData that identifies its noise. Its answer has the keys of the server's.
 *
 * @param tables What daelab knows of the models of the page.
 * @param run    An async function of the name of a graph and a Float32Array with its shape, which returns the outputs.
 */
export function makeIdentifier(tables, run) {
  return async (image) => {
    const patches = cutPatches(image);
    const { probabilities, effect } = await run("families", join(patches.map((patch) => planes(patch, 255))), shape(patches));
    const tiles = cutTiles(image, tables.smallest_tile);
    const { drawn } = await run("graphics", join(tiles.map((tile) => planes(tile, 1))), shape(tiles));
    let [expected, level] = [0, 0];
    for (const tile of tiles) {
      const [gain, logarithm] = (await run("gain", planes(tile, 255), shape([tile]))).gain;
      expected += gain / tiles.length;
      level += logarithm / tiles.length;
    }
    return choose(tables, [...probabilities], effect, { expected, sigma: Math.exp(level), graphics: drawn[0] > 0 });
  };
}

/** Choose a model by what the networks have found, as `identify_noise` does. */
export function choose(tables, values, found, { expected, sigma: deviation, graphics }) {
  const probabilities = Object.fromEntries(tables.families.map((name, at) => [name, values[at]]));
  const family = tables.families[values.indexOf(Math.max(...values))];
  const untouched = tables.untouched.includes(family);
  const [level, gain, offset] = untouched ? [0, 1, 0] : found;
  const shift = gain * 0.5 + offset - 0.5;
  const within = (value, [low, high]) => low <= value && value <= high;
  const covers = ({ covers: rows }, kind) => rows.some((row) => row.families.includes(kind) && within(shift, row.shift) && within(level, row.level));
  const sum = (kinds) => kinds.reduce((total, kind) => total + probabilities[kind], 0);
  const centered = sum(tables.families.filter((kind) => ![...tables.brightness, ...tables.untouched].includes(kind))) >= tables.noisy;
  const sigma = centered && 255 * level >= Math.max(deviation, tables.strong) ? 255 * level : deviation;
  const likely = tables.families.filter((kind) => probabilities[kind] > tables.least_share);
  const fits = (model) => sum(likely.filter((kind) => covers(model, kind))) > 0.5;
  let models = untouched || graphics ? [] : tables.models.filter(fits).map(({ name }) => name);
  const heavy = family === "salt-and-pepper" || sigma >= tables.heavy;
  const photographic = tables.models.filter(({ photographs }) => photographs);
  const photo = ((heavy && photographic.find(({ telephones }) => telephones)) || photographic[0])?.name ?? models[0] ?? null;
  const worth = expected >= tables.gain && !graphics;
  const fitting = models.length && sum(tables.brightness) >= tables.noisy ? models[0] : null;
  if (!fitting && photo && worth) models = [...new Set([photo, ...models])];
  const text = describe(tables, { family, level, sigma, expected, graphics, photo, fitting, worth });
  return {
    text, family, confidence: probabilities[family], probabilities, level, gain, offset, sigma, expected_gain: expected, graphics, models, fitting,
    choice: fitting ?? (worth ? photo : null),
  };
}

/** Describe the noise in one line, as the server does. */
function describe({ titles, reasons, faint, untouched, brightness }, { family, level, sigma, expected, graphics, photo, fitting, worth }) {
  if (!fitting && !(photo && worth)) {
    if (graphics) return reasons.graphic;
    if (!photo && !untouched.includes(family)) return reasons.unknown;
    return photo && expected >= faint ? reasons.faint : reasons.clean;
  }
  const title = !fitting && [...untouched, ...brightness].includes(family) ? "Noise" : titles[family];
  const size = fitting ? 255 * level : sigma;
  return `${title}, ${size >= 1 ? `about ${roundEven(size)}` : "less than 1"} of 255`;
}

/** Return patches side by side, or evenly spaced ones if there would be too many. */
function cutPatches(image) {
  const [across, down] = [image.width, image.height].map((side) => {
    const length = Math.max(side, PATCH);
    return spread(length - PATCH, Math.min(MOST_PATCHES, Math.floor(length / PATCH)));
  });
  return down.flatMap((top) => across.map((left) => cut(image, left, top, PATCH, PATCH)));
}

/** Return at most twelve tiles, spread evenly over the picture, with distances that are alike along both sides. */
function cutTiles(image, smallest) {
  const [width, height] = [image.width, image.height].map((side) => Math.max(side, smallest));
  const clip = (value, side) => Math.min(Math.max(value, 1), Math.max(1, Math.floor(side / TILE)));
  const across = Math.min(TILES, clip(roundEven(Math.sqrt((TILES * width) / height)), width));
  const down = clip(Math.floor(TILES / across), height);
  const [wide, tall] = [width, height].map((side) => Math.min(TILE, Math.floor(side / BLOCK) * BLOCK));
  return spread(height - tall, down).flatMap((top) => spread(width - wide, across).map((left) => cut(image, left, top, wide, tall)));
}

/** Return places from 0 to `room` on the grid of blocks. */
function spread(room, count) {
  const place = (at) => (count === 1 ? room / 2 : at === count - 1 ? room : at * (room / (count - 1)));
  return Array.from({ length: count }, (_, at) => Math.floor(Math.floor(place(at)) / BLOCK) * BLOCK);
}

/** Round as Python does, to the even number if there are two. */
const roundEven = (value) => (value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));

/** Return part of a picture, which is continued by reflection. */
function cut({ data, width, height }, left, top, wide, tall) {
  const part = new Uint8ClampedArray(4 * wide * tall);
  for (let row = 0, out = 0; row < tall; row++) {
    for (let column = 0; column < wide; column++, out += 4) {
      const at = 4 * (reflect(top + row, height) * width + reflect(left + column, width));
      for (let channel = 0; channel < 3; channel++) part[out + channel] = data[at + channel];
    }
  }
  return { data: part, width: wide, height: tall };
}

function reflect(at, length) {
  const period = Math.max(1, 2 * (length - 1));
  const place = at % period;
  return place < length ? place : period - place;
}

/** Return the values of a part, (3, height, width), divided by `white`. */
function planes({ data, width, height }, white) {
  const size = width * height;
  return Float32Array.from({ length: 3 * size }, (_, at) => data[4 * (at % size) + Math.floor(at / size)] / white);
}

function join(arrays) {
  const joined = new Float32Array(arrays.length * arrays[0].length);
  arrays.forEach((array, at) => joined.set(array, at * array.length));
  return joined;
}

const shape = (parts) => [parts.length, 3, parts[0].height, parts[0].width];
