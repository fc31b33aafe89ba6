// What the page says of a model, of a result, and of the noise of a picture.

import { define, h, number } from "./dom.js";
import { explain } from "./terms.js";
import { AUTOMATIC, decibels, describeBlend, findMisfit, madeFor, similarity } from "./words.js";

/** Show the metadata of a model, or of the automatic choice if there is none. */
export function describeModel(list, model) {
  if (!model) {
    define(list, [["Choice", "the best model for the noise of the picture; none if it looks clean"]]);
    return;
  }
  const on = model.images ? `${number(model.images)} images of ${model.data}` : `validation images of ${model.data}`;
  define(list, [
    ["Made for", madeFor(model.noise)],
    [explain("PSNR"), model.psnr ? `${model.psnr_noisy ? `${number(model.psnr_noisy, 2)} → ` : ""}${decibels(model.psnr)}` : "not measured"],
    ["Measured on", model.psnr ? on : "–"],
    ["Parameters", number(model.parameters)],
    [explain("MACs", "Cost"), `${number(model.macs_per_pixel)} MACs per pixel`],
  ]);
}

/**
 * Show the facts about a result.
 *
 * @param report   The report of the backend.
 * @param blend    How the result is mixed with its source.
 * @param scores   The scores of the mixture, or null if they are not known yet.
 * @param scored   Whether there are scores at all.
 * @param waited   The seconds with the transfer.
 * @param other    The report on the other model's result, or null.
 */
export function describeResult(list, { report, blend, scores, scored, waited, other }) {
  const pairs = [];
  if (scored) {
    const { noisy, denoised } = scores ?? {};
    const all = (values) => values && (values.all ?? Object.values(values)[0]);
    const [before, after] = [all(noisy), all(denoised)];
    pairs.push(
      [explain("PSNR"), after ? decibels(after.psnr) : "…", h("small", {}, before ? `noisy ${decibels(before.psnr)}` : "")],
      [explain("SSIM"), after ? similarity(after.ssim) : "…", h("small", {}, before ? `noisy ${similarity(before.ssim)}` : "")]);
  }
  if (report.model) {
    const at = describeBlend(blend);
    pairs.push(["Model", report.model, h("small", {}, [at, report.why].filter(Boolean).join("; "))]);
    if (other) pairs.push(["Left of the divider", other.model || "nothing changed", h("small", {}, at)]);
    const speed = report.seconds > 0 ? `${number((report.width * report.height) / report.seconds / 1e6, 2)} megapixels/s; ${number(waited, 1)} s with the transfer` : "";
    pairs.push(["Time taken", `${number(report.seconds, 2)} s`, h("small", {}, speed)]);
  } else pairs.push(["Result", "Nothing was changed", h("small", {}, report.why)]);
  if (report.note || report.pages > 1) pairs.push(["Note", h("small", {}, report.note || `${report.pages} pages`)]);
  define(list, pairs);
}

/**
 * Show what the noise looks like, and whether the chosen model fits it.
 *
 * @param noise  The answer of noise identification, or null if it is not known yet.
 * @param model  The name of the chosen model.
 * @param models The models that can be chosen.
 * @param use    A function of the name of a model, which chooses it.
 */
export function describeNoise(place, { noise, model, models, use }) {
  const misfit = findMisfit(noise, model, models);
  const instead = (name) => h("button", { type: "button", class: "quiet", onclick: () => use(name) }, `Use ${name === AUTOMATIC ? "the automatic choice" : name} instead`);
  place.classList.toggle("misfit", Boolean(misfit));
  place.replaceChildren(
    ...(noise ? [h("p", {}, h("b", {}, noise.text))] : []),
    ...(misfit ? [h("p", { class: "warning" }, `${misfit.text} `, misfit.better ? instead(misfit.better) : null)] : []),
    ...(noise ? [details(noise)] : []));
}

function details(noise) {
  const likely = Object.entries(noise.probabilities).sort(([, a], [, b]) => b - a).slice(0, 3);
  const list = h("dl", { class: "small" });
  define(list, [
    ...(noise.advice ? [["Advice", noise.advice]] : []), // the static page has none
    ["Most likely kinds", likely.map(([name, share]) => `${name} ${Math.round(share * 100)}%`).join(", ")],
    ["Standard deviation", `${number(noise.sigma, 1)} of 255`],
    ["Level, gain and offset", [noise.level, noise.gain, noise.offset].map((value) => number(value, 3)).join(", ")],
    ["Expected gain", `${number(noise.expected_gain, 1)} dB`],
  ]);
  return h("details", {}, h("summary", {}, "Details"), list);
}
