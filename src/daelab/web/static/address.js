// The settings in the address of the page, so that it can be shared.

/** Return the settings of the address: {sample, model, noise, seed, strength}, each a text or null. */
export function readAddress() {
  const query = new URLSearchParams(location.search);
  return Object.fromEntries(["sample", "model", "noise", "seed", "strength"].map((key) => [key, query.get(key)]));
}

/** Return the address of the page with these settings. What is null or "" is left out. */
export function makeAddress(settings) {
  const url = new URL(location.href);
  for (const [key, value] of Object.entries(settings)) {
    if (value === null || value === "") url.searchParams.delete(key);
    else url.searchParams.set(key, value);
  }
  return url;
}
