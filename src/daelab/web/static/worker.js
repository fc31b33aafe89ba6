// The other side of backend.js: takes calls, gives results. What the work is, server.js or local.js says.

import * as pixels from "./pixels.js";

const running = new Map();
let doer = null;

async function start({ kind, token }) {
  const { create } = await import(kind === "server" ? "./server.js" : "./local.js");
  return { ...(await create(token)), histogram: ({ blob }) => pixels.histogram(blob) };
}

async function work({ id, name, values }) {
  const stop = new AbortController();
  running.set(id, stop);
  const progress = (...counts) => postMessage({ id, progress: counts });
  try {
    const result = await (await doer)[name](values, { signal: stop.signal, progress });
    postMessage({ id, result });
  } catch (error) {
    postMessage({ id, error: error.message || String(error), status: error.status });
  } finally {
    running.delete(id);
  }
}

addEventListener("message", ({ data }) => {
  if (data.start) doer = start(data.start);
  else if (data.token !== undefined) doer.then((it) => it.setToken(data.token));
  else if (data.cancel !== undefined) running.get(data.cancel)?.abort();
  else work(data);
});
