// The worker behind backend.js: it answers calls with the functions of server.js or local.js, and with those on pixels.

import * as pixels from "./pixels.js";
import { scores } from "./scores.js";
import { FULL } from "./words.js";
import { zip } from "./zip.js";

const running = new Map();
let functions = null;

/** Return the histogram of a mixture of two pictures, and the scores of what is shown if the clean picture is known. */
async function measure({ source, result = source, blend = FULL, clean }) {
  const [before, after] = await Promise.all([source, result].map((blob) => pixels.decode(blob)));
  const shown = pixels.mix(before, after, blend);
  const known = clean && (await pixels.decode(clean));
  return { histogram: pixels.histogram(shown), scores: known ? { noisy: scores(before, known), denoised: scores(shown, known) } : null };
}

async function start({ kind, token }) {
  const { create } = await import(kind === "server" ? "./server.js" : "./local.js");
  const { blend, crop, thumbnail } = pixels;
  return { ...(await create(token)), measure, blend, crop, thumbnail, zip };
}

async function work({ id, name, values }) {
  const stop = new AbortController();
  running.set(id, stop);
  const progress = (...counts) => postMessage({ id, progress: counts });
  try {
    const result = await (await functions)[name](values, { signal: stop.signal, progress });
    postMessage({ id, result });
  } catch (error) {
    postMessage({ id, error: error.message || String(error), status: error.status });
  } finally {
    running.delete(id);
  }
}

addEventListener("message", ({ data }) => {
  if (data.start) functions = start(data.start);
  else if (data.token !== undefined) functions.then((loaded) => loaded.setToken(data.token));
  else if (data.cancel !== undefined) running.get(data.cancel)?.abort();
  else work(data);
});
