// How a result is mixed with its source: the sliders for strength, colors and detail, and the mixture that is shown.

import { $ } from "./dom.js";
import { FULL, percent } from "./words.js";

const SLIDERS = ["strength", "chroma", "detail"];

export class BlendControls {
  /**
   * @param detailed Whether detail can be recovered, which the server computes.
   * @param changed  A function that is called when a slider moves.
   */
  constructor(detailed, changed) {
    this.linked = true; // the colors follow the strength until they get their own
    this.detailed = detailed;
    $("detail-row").hidden = !detailed;
    for (const id of SLIDERS) {
      $(id).addEventListener("input", () => {
        if (id === "strength" && this.linked) $("chroma").value = $("strength").value;
        if (id === "chroma") this.linked = this.value.chroma === null;
        this.tell();
        changed();
      });
    }
  }

  get value() {
    const [strength, chroma, detail] = SLIDERS.map((id) => Number($(id).value));
    return { strength, chroma: chroma === strength ? null : chroma, detail };
  }

  set({ strength, chroma, detail }) {
    this.linked = chroma === null;
    Object.entries({ strength, chroma: chroma ?? strength, detail: this.detailed ? detail : 0 }).forEach(([id, value]) => { $(id).value = value; });
    this.tell();
  }

  tell() {
    for (const id of SLIDERS) $(`${id}-now`).textContent = percent($(id).value);
  }
}

/** Return what the backend must mix: all of it if detail is recovered. Everything else is mixed in the browser. */
export const bake = (blend) => (blend.detail ? blend : FULL);

/** Return how the browser must mix the result of `bake` with the source. */
export const mixture = (blend) => (blend.detail ? FULL : blend);

export const isSame = (one, other) => SLIDERS.every((key) => one[key] === other[key]);

/** Shows mixtures. They are mixed by their opacities, or pixel by pixel if colors have a strength of their own. */
export class Mixer {
  constructor(backend, viewer) {
    Object.assign(this, { backend, viewer, wanted: null, running: false });
  }

  /**
   * @param sides {source, result, other}: pictures that the browser can show; `other` is the result on the left.
   * @param whole How the source is mixed with the result at full strength.
   */
  show(sides, whole) {
    const blend = mixture(whole);
    this.wanted = { sides, blend };
    if (blend.chroma === null) this.viewer.mix(blend.strength);
    else if (!this.running) this.paint().finally(() => { this.running = false; });
  }

  /** Return what is shown on the right, as PNG. */
  makeFile() {
    const { sides: { source, result }, blend } = this.wanted;
    return this.backend.call("blend", { source, result, blend });
  }

  /** Paint what is wanted, until nothing else is. */
  async paint() {
    this.running = true;
    for (let drawn = null; this.wanted !== drawn && this.wanted.blend.chroma !== null;) {
      drawn = this.wanted;
      const { sides: { source, result, other }, blend } = drawn;
      const mix = (side) => side && this.backend.call("blend", { source, result: side, blend, bitmap: true });
      const bitmaps = await Promise.all([mix(other), mix(result)]);
      if (this.wanted.sides.result === result && this.wanted.blend.chroma !== null) this.viewer.paint(...bitmaps);
    }
  }
}
