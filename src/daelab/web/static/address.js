// The settings in the address of the page, so that it can be shared.

import { FULL } from "./words.js";

/** Return the settings of the address: {sample, model, noise, seed}, each a text or null, and {blend}. */
export function readAddress() {
  const query = new URLSearchParams(location.search);
  const share = (key) => {
    const text = query.get(key);
    return text !== null && text >= 0 && text <= 1 ? Number(text) : FULL[key];
  };
  const texts = ["sample", "model", "noise", "seed"].map((key) => [key, query.get(key)]);
  return { ...Object.fromEntries(texts), blend: Object.fromEntries(Object.keys(FULL).map((key) => [key, share(key)])) };
}

/** Return the address of the page with these settings. What is empty, or as usual, is left out. */
export function makeAddress(sample, { model, noise, blend }) {
  const url = new URL(location.href);
  const settings = { sample, model, noise: noise?.text, seed: noise?.seed, ...blend };
  for (const [key, value] of Object.entries(settings)) {
    if (value === undefined || value === "" || value === FULL[key]) url.searchParams.delete(key);
    else url.searchParams.set(key, value);
  }
  return url;
}
