// Keeps the static page in the browser, so that it works without a network. daelab writes VERSION and FILES above this
// text: when a file of the page changes, so does this one, and the browser takes all files anew.

/* global VERSION, FILES */
const OWN = `daelab ${registration.scope} `;
const CACHE = OWN + VERSION;

async function fill() {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((name) => new Request(name, { cache: "no-cache" })));
}

async function tidy() {
  for (const name of await caches.keys()) if (name.startsWith(OWN) && name !== CACHE) await caches.delete(name);
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  // The settings in the address are for the page alone.
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}

addEventListener("install", (event) => event.waitUntil(fill()));
addEventListener("activate", (event) => event.waitUntil(tidy()));
addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
