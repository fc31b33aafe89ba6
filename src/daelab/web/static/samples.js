// The bundled photographs as buttons.

import { $, h } from "./dom.js";

/**
 * Offer samples, whose thumbnails load one by one.
 *
 * @param samples [{name}]
 * @param open    A function of the name of a sample.
 */
export function offerSamples(backend, samples, open) {
  $("samples").replaceChildren(...samples.map(({ name }) => {
    const image = h("img", { alt: "", width: 320, height: 240 });
    const show = (file) => { image.src = URL.createObjectURL(file); };
    backend.call("sample", { name, thumbnail: true }).then(show, () => image.remove());
    return h("button", { type: "button", "data-sample": name, onclick: () => open(name) }, image, h("span", {}, name));
  }));
  $("samples").hidden = !samples.length;
}
