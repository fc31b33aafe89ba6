// The noises of the paper, with the same random numbers as daelab.noise (Philox 4x32-10 and Box-Muller).

const [M0, M1, W0, W1] = [0xd2511f53, 0xcd9e8d57, 0x9e3779b9, 0xbb67ae85];

/** Return the upper 32 bits of the product of two 32-bit numbers. */
function high(a, b) {
  const ah = a >>> 16, al = a & 0xffff, bh = b >>> 16, bl = b & 0xffff;
  const one = ah * bl + ((al * bl) >>> 16);
  const two = al * bh + (one & 0xffff);
  return (ah * bh + (one >>> 16) + (two >>> 16)) >>> 0;
}

function philox(c0, c1, c2, c3, k0, k1, out) {
  for (let round = 0; round < 10; round++) {
    const upper0 = high(c0, M0), lower0 = Math.imul(c0, M0) >>> 0;
    const upper2 = high(c2, M1), lower2 = Math.imul(c2, M1) >>> 0;
    c0 = (upper2 ^ c1 ^ k0) >>> 0;
    c1 = lower2;
    c2 = (upper0 ^ c3 ^ k1) >>> 0;
    c3 = lower0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** Random numbers that depend on a seed and a file name alone. */
export class RandomStreams {
  constructor(seed, name) {
    this.key = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
    this.image = crc32(new TextEncoder().encode(name));
    this.stream = 0;
    this.words = new Uint32Array(4);
  }

  at(block, stream) {
    philox(block, stream, this.image, 0, ...this.key, this.words);
    return this.words;
  }

  pick(options) {
    return Math.floor((this.at(0, this.stream++)[0] * options) / 2 ** 32);
  }

  /** Return a Float32Array of standard normal numbers. */
  normal(count) {
    const stream = this.stream++;
    const blocks = Math.ceil(count / 4);
    const found = new Float32Array(4 * blocks);
    for (let block = 0; block < blocks; block++) {
      const words = this.at(block, stream);
      for (const j of [0, 1]) {
        const radius = Math.sqrt(-2 * Math.log((words[j] + 1) / 2 ** 32));
        const angle = (2 * Math.PI * words[j + 2]) / 2 ** 32;
        found[j * blocks + block] = radius * Math.cos(angle);
        found[(j + 2) * blocks + block] = radius * Math.sin(angle);
      }
    }
    return found;
  }
}

const NUMBER = "[-+]?(?:\\d+\\.?\\d*|\\.\\d+)(?:e[-+]?\\d+)?";
const TERM = new RegExp(`^\\(?\\s*(gaussian|multiplicative)\\(\\s*(${NUMBER})\\s*,\\s*(${NUMBER})\\s*\\)\\s*\\)?$`, "i");

/** Parse the formula of a noise: a list of choices, each a chain of terms. */
export function parse(text, formulas) {
  return text.split("|").flatMap((choice) => {
    const name = choice.trim();
    if (name in formulas && formulas[name] !== name) return parse(formulas[name], formulas);
    const inner = /^\((.*>.*)\)$/.exec(name)?.[1] ?? name;
    return [inner.split(">").map((part) => {
      const found = TERM.exec(part.trim());
      if (!found) throw new Error(`unknown noise ${part.trim()}; this page knows gaussian(mean, std) and multiplicative(mean, std), joined with > and |`);
      return { kind: found[1].toLowerCase(), mean: Math.fround(found[2]), std: Math.fround(found[3]) };
    })];
  });
}

/** Add a noise to values (C, H, W) in [0, 1], in place. */
export function addNoise(values, choices, streams) {
  const chain = choices.length > 1 ? choices[streams.pick(choices.length)] : choices[0];
  for (const { kind, mean, std } of chain) {
    const normal = streams.normal(values.length);
    for (let i = 0; i < values.length; i++) {
      const n = Math.fround(Math.fround(normal[i] * std) + mean);
      const by = kind === "gaussian" ? n : Math.fround(n * values[i]);
      values[i] = Math.min(1, Math.max(0, Math.fround(values[i] + by)));
    }
  }
}

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
