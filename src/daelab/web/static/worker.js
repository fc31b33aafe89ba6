// The worker behind backend.js: it answers calls with the functions of server.js or local.js.

import * as pixels from "./pixels.js";

const running = new Map();
let functions = null;

async function start({ kind, token }) {
  const { create } = await import(kind === "server" ? "./server.js" : "./local.js");
  return { ...(await create(token)), histogram: ({ blob }) => pixels.histogram(blob) };
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
