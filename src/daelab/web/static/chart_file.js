// A chart as a PNG file, with its title and its legend, in the colors of the page.

const SCALE = 2;
const [MARGIN, LINE] = [16, 22];
const LOOKS = ["stroke", "stroke-width", "stroke-dasharray", "fill", "opacity", "font-size", "font-family"];

/**
 * Return a chart as PNG.
 *
 * @param svg   The chart.
 * @param title What it shows.
 * @param names [[text, its line in the legend as SVG], ...]
 */
export async function drawChartFile(svg, title, names) {
  const { width, height } = svg.viewBox.baseVal;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [(width + 2 * MARGIN) * SCALE, (height + (names.length + 1) * LINE + 2 * MARGIN) * SCALE];
  const context = canvas.getContext("2d");
  context.scale(SCALE, SCALE);
  const page = getComputedStyle(document.documentElement);
  context.fillStyle = page.getPropertyValue("--card");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = page.getPropertyValue("--ink");
  context.font = "600 14px system-ui, sans-serif";
  context.fillText(title, MARGIN, MARGIN + 12);
  context.drawImage(await picture(svg, width, height), MARGIN, MARGIN + LINE, width, height);
  context.font = "13px system-ui, sans-serif";
  for (const [at, [text, line]] of names.entries()) {
    const y = MARGIN + height + (at + 1) * LINE;
    context.drawImage(await picture(line, 30, 12), MARGIN, y, 30, 12);
    context.fillText(text, MARGIN + 38, y + 10);
  }
  return new Promise((resolve) => canvas.toBlob(resolve));
}

/** Return an SVG element as a picture. Outside of the page it has no style sheet, so that all looks become attributes. */
async function picture(svg, width, height) {
  const copy = svg.cloneNode(true);
  const originals = svg.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((element, at) => {
    const style = getComputedStyle(originals[at]);
    element.removeAttribute("style");
    for (const name of LOOKS) element.setAttribute(name, style.getPropertyValue(name));
  });
  for (const [name, value] of Object.entries({ xmlns: "http://www.w3.org/2000/svg", width, height })) copy.setAttribute(name, value);
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }));
  try {
    await image.decode();
    return await createImageBitmap(image, { resizeWidth: width * SCALE, resizeHeight: height * SCALE });
  } finally {
    URL.revokeObjectURL(image.src);
  }
}
