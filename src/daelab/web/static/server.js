// The work of the page, done by the HTTP API of the server.

const API = new URL("../api/", import.meta.url);

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

const bytesOf = Uint8Array.fromBase64
  ? (text) => Uint8Array.fromBase64(text)
  : (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** Yield the JSON lines of a stream. */
async function* lines(stream) {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

export function create(token) {
  async function ask(path, { query = {}, body, signal, method = body ? "POST" : "GET" } = {}) {
    const url = new URL(path, API);
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    let answer;
    try {
      answer = await fetch(url, { method, body, headers, signal });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Refused(0, "the server does not answer");
    }
    if (!answer.ok) {
      const problem = await answer.json().catch(() => ({}));
      throw new Refused(answer.status, problem.error ?? `the server answered ${answer.status}`);
    }
    return answer;
  }

  const json = async (path, options) => (await ask(path, options)).json();

  async function file(path, options) {
    const answer = await ask(path, options);
    const name = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("content-disposition") ?? "");
    return new File([await answer.blob()], name ? decodeURIComponent(name[1]) : "picture", {
      type: answer.headers.get("content-type"),
    });
  }

  async function denoise({ picture, clean, model, blend, format, quality }, { signal, progress }) {
    const body = new FormData();
    body.append("picture", picture, picture.name);
    if (clean) body.append("clean", clean, clean.name);
    const { strength, chroma, detail } = blend;
    const query = { model, strength, ...(chroma !== null && { chroma }), ...(detail && { detail }), answer: "events", ...(format && { format }), ...(quality && { quality }) };
    const answer = await ask("denoise", { query, body, signal });
    const pieces = [];
    let report = null;
    for await (const event of lines(answer.body)) {
      if (event.event === "progress") progress(event.done, event.total);
      else if (event.event === "report") report = event;
      else if (event.event === "file") pieces.push(bytesOf(event.base64));
      else if (event.event === "error") throw new Refused(event.status, event.error);
      else if (event.event === "end") return { report, file: new File(pieces, report.name, { type: report.media }) };
    }
    throw new Refused(0, "the connection to the server was lost");
  }

  const one = (path, query = () => ({})) => (values, { signal }) =>
    file(path, { query: { name: values.picture.name, ...query(values) }, body: values.picture, signal });

  return {
    setToken: (text) => { token = text; },
    about: () => json("about"),
    models: () => json("models"),
    sample: ({ name, thumbnail = false }) => file(`samples/${encodeURIComponent(name)}`, { query: { thumbnail } }),
    noise: one("noise", ({ text, seed }) => ({ noise: text, seed })),
    preview: one("preview"),
    inspect: ({ picture }, { signal }) => json("inspect", { query: { name: picture.name }, body: picture, signal }),
    denoise,
    columns: () => json("columns"),
    runs: ({ since }) => json("runs", { query: { since } }),
    run: ({ name, after }) => json(`runs/${encodeURIComponent(name)}`, { query: { after } }),
    details: ({ name }) => json(`runs/${encodeURIComponent(name)}/details`),
    stop: ({ name }) => json(`runs/${encodeURIComponent(name)}/stop`, { method: "POST" }),
    picture: async ({ path }) => (await ask(path)).blob(),
    studies: () => json("studies"),
    study: ({ name }) => json(`studies/${encodeURIComponent(name)}`),
    leaderboard: () => json("leaderboard"),
  };
}
