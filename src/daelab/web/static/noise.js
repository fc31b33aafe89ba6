// The noise controls: presets, sliders for the four types of the paper, and the formula that all of them write.

import { $, h } from "./dom.js";

const TITLES = {
  "type-1": "Type-I: Gaussian",
  "type-2": "Type-II: multiplicative",
  "type-1+2": "Type-I, then Type-II",
  "type-2+1": "Type-II, then Type-I",
  "published-code": "One of the four, as in the paper's code",
  "table-1": "One of the four, as in the paper's Table 1",
  real: "Noise of real photographs, one of several",
};
const TERM = /^(gaussian|multiplicative)\(([^,()]+), ?([^,()]+)\)$/;

/** Return the terms [[name, mean, std], ...] of a formula that is one of the paper's types, or null. */
function terms(text) {
  const found = text.split(">").map((term) => TERM.exec(term.trim()));
  if (!found.every(Boolean) || found.length > 2) return null;
  const read = found.map(([, name, mean, std]) => [name, Number(mean), Number(std)]);
  return read.every(([, mean, std]) => Number.isFinite(mean) && Number.isFinite(std)) ? read : null;
}

export class NoiseControls {
  constructor(formulas, changed) {
    this.formulas = formulas;
    this.changed = changed;
    const option = (name) => h("option", { value: name }, TITLES[name] ?? name);
    $("preset").replaceChildren(...Object.keys(formulas).map(option), h("option", { value: "" }, "Other: enter a formula"));
    $("noise-on").addEventListener("change", () => this.on($("noise-on").checked));
    $("preset").addEventListener("change", () => this.choose($("preset").value));
    $("noise-text").addEventListener("change", () => this.write($("noise-text").value.trim()));
    $("seed").addEventListener("change", () => this.changed());
    $("reseed").addEventListener("click", () => {
      $("seed").value = Math.floor(Math.random() * 1e6);
      this.changed();
    });
    this.choose(Object.keys(formulas)[0], false);
  }

  on(wanted, tell = true) {
    $("noise-on").checked = wanted;
    $("noise-more").hidden = !wanted;
    if (tell) this.changed();
  }

  /** Take over a formula, or the name of a preset, and a seed. */
  set(text, seed) {
    this.write(text, false);
    if (/^\d{1,6}$/.test(seed ?? "")) $("seed").value = seed;
    this.on(true, false);
  }

  /** The noise to add: {text, seed}, or null. */
  get value() {
    return $("noise-on").checked ? this.settings : null;
  }

  /** The noise that is added if noise is switched on. */
  get settings() {
    return { text: $("noise-text").value.trim() || "none", seed: Math.max(0, Math.floor(Number($("seed").value)) || 0) };
  }

  choose(preset, tell = true) {
    $("preset").value = preset;
    if (!preset) $("noise-text").focus();
    else {
      const formula = this.formulas[preset];
      $("noise-text").value = terms(formula) ? formula : preset;
      this.sliders();
    }
    if (tell && preset) this.changed();
  }

  write(text, tell = true) {
    const preset = Object.keys(this.formulas).find((name) => name === text || this.formulas[name] === text);
    $("preset").value = preset ?? "";
    $("noise-text").value = preset && terms(this.formulas[preset]) ? this.formulas[preset] : text;
    this.sliders();
    if (tell) this.changed();
  }

  /** Show two sliders for each term: its mean and its standard deviation. */
  sliders() {
    const levels = terms($("noise-text").value) ?? [];
    const rows = levels.flatMap(([name, ...values], place) => [
      h("p", { class: "levels-of" }, name === "gaussian" ? "Gaussian (additive)" : "Multiplicative"),
      ...["mean", "std"].map((what, at) => this.slider(levels, place, at + 1, what, values[at])),
    ]);
    $("levels").replaceChildren(...rows);
  }

  slider(levels, place, at, what, value) {
    const [name] = levels[place];
    const id = `level-${place}-${what}`;
    const now = h("output", { for: id }, value.toFixed(2));
    const input = h("input", {
      type: "range", id, min: what === "mean" ? -0.5 : 0, max: name === "gaussian" ? 0.6 : 1.2, step: 0.01, value,
      oninput: () => {
        levels[place][at] = Number(input.value);
        now.textContent = Number(input.value).toFixed(2);
        $("noise-text").value = levels.map(([term, mean, std]) => `${term}(${mean}, ${std})`).join(" > ");
        $("preset").value = Object.keys(this.formulas).find((key) => this.formulas[key] === $("noise-text").value) ?? "";
        this.changed();
      },
    });
    const title = what === "mean" ? "mean" : "standard deviation";
    return h("div", { class: "slider" }, h("label", { for: id }, `${title}`, h("span", { class: "unseen" }, ` of ${name}`)), now, input);
  }
}
