// Small functions that build a page without a framework.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Make an HTML element: h("p", {class: "muted"}, "text", child). Text is never read as markup. */
export const h = (name, properties = {}, ...children) => fill(document.createElement(name), properties, children);

/** Make an SVG element. */
export const s = (name, properties = {}, ...children) => fill(document.createElementNS(SVG, name), properties, children);

/** Fill a dl with pairs of a term and its definition. */
export function define(list, pairs) {
  list.replaceChildren(...pairs.map(([term, ...text]) => h("div", {}, h("dt", {}, term), h("dd", {}, ...text))));
}

export const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Show an error, or hide the last one. */
export function say(place, text = "") {
  place.textContent = text;
  place.hidden = !text;
}
