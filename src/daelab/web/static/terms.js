// A question mark beside a term, which explains it.

import { h } from "./dom.js";

const TERMS = {
  PSNR: "Peak signal-to-noise ratio, in decibels: how close a picture is to the clean one. Higher is better; about 3 dB more halves the squared error.",
  SSIM: "Structural similarity, up to 1: whether the structures of a picture are those of the clean one. Higher is better.",
  MACs: "Multiply-accumulate operations: the arithmetic that a model needs for each pixel. Fewer is faster.",
  F1: "The mean of precision and recall of a classifier, up to 1: how well it still recognizes pictures. Higher is better.",
};
const bubble = h("div", { popover: "auto", class: "bubble", role: "status" });

function show(button, text) {
  bubble.textContent = text;
  // In the button's own layer, which may be a dialog or the full view.
  (button.closest("dialog, :fullscreen") ?? document.body).append(bubble);
  bubble.showPopover();
  const { left, bottom } = button.getBoundingClientRect();
  // Placed by hand, since not every browser can anchor a popover.
  bubble.style.left = `${Math.max(8, Math.min(left, innerWidth - bubble.offsetWidth - 8))}px`;
  bubble.style.top = `${Math.min(bottom + 6, innerHeight - bubble.offsetHeight - 8)}px`;
}

/** Return a term with a button that explains it. */
export function explain(term, text = term) {
  const button = h("button", { type: "button", class: "ask", "aria-label": `What is ${term}?`, onclick: () => show(button, TERMS[term]) });
  return h("span", { class: "term" }, text, " ", button);
}
