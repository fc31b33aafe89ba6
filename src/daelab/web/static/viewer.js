// Two pictures on top of each other with a divider. They are zoomed and moved together.

import { $, number } from "./dom.js";

const STEP = 1.25;
const LARGEST = 64;

export class Viewer {
  constructor() {
    this.stage = $("stage");
    // The source and the result on each side of the divider. On the left the result is another model's, or none.
    this.images = { before: $("before"), other: $("other"), under: $("under"), after: $("after") };
    this.painted = [$("painted-left"), $("painted")];
    this.part = $("part");
    this.place = [0, 0];
    this.urls = new Map();
    this.size = [1, 1];
    this.view = { scale: 1, x: 0, y: 0 };
    this.fitted = true;
    this.divided = 50;
    this.strength = 1;
    this.pointers = new Map();
    this.listen();
    new ResizeObserver(() => (this.fitted ? this.fit() : this.draw())).observe(this.stage);
  }

  /**
   * Show a picture and, if there is one, its result.
   *
   * @param pictures {source, result, other}: blobs that the browser can show; `other` is the result on the left.
   * @param size     The width and height.
   * @param names    The texts on the left and on the right.
   * @param single   Whether to show only one picture, without the divider.
   */
  show({ source, result = null, other = null }, { size, names, single = !result }) {
    const blobs = { before: source, other, under: source, after: result };
    const old = this.urls;
    this.urls = new Map();
    for (const [id, image] of Object.entries(this.images)) {
      const blob = blobs[id];
      image.hidden = !blob;
      image.alt = blob ? `the picture: ${names[id === "before" || id === "other" ? 0 : 1]}` : "";
      [image.width, image.height] = size;
      if (!blob) image.removeAttribute("src");
      else {
        if (!this.urls.has(blob)) this.urls.set(blob, old.get(blob) ?? URL.createObjectURL(blob));
        if (image.getAttribute("src") !== this.urls.get(blob)) image.src = this.urls.get(blob);
      }
    }
    for (const [blob, url] of old) if (!this.urls.has(blob)) URL.revokeObjectURL(url);
    this.showPart(null);
    const resized = size.some((side, axis) => side !== this.size[axis]);
    this.size = size;
    this.stage.style.setProperty("--aspect", size[0] / size[1]);
    this.label(names, single);
    if (resized || this.fitted) this.fit();
    this.paint();
  }

  label(names, single) {
    this.stage.classList.toggle("single", single);
    for (const id of ["clip", "divider", "tag-after"]) $(id).hidden = single;
    $("tag-before").textContent = names[0];
    $("tag-after").textContent = names[1];
    const [left, right] = names.map((name) => name.toLowerCase());
    $("divider").setAttribute("aria-label", `Divider with the ${left} picture on its left and the ${right} picture on its right`);
  }

  /** Show a denoised part of the picture, before there is a result of all of it. Null removes it. */
  showPart(blob, place = [0, 0], size = [1, 1]) {
    if (this.part.src) URL.revokeObjectURL(this.part.src);
    this.part.hidden = !blob;
    $("clip").classList.toggle("partial", Boolean(blob));
    if (!blob) {
      this.part.removeAttribute("src");
      return;
    }
    this.part.src = URL.createObjectURL(blob);
    [this.part.width, this.part.height] = size;
    this.place = place;
    this.label([$("tag-before").textContent, "Denoised part"], false);
    this.draw();
  }

  /** Return the part of the picture that is visible right of the divider, around its middle, of at most so many pixels. */
  visible(most) {
    const { scale, x, y } = this.view;
    const starts = [(this.box()[0] * this.divided) / 100, 0];
    const spans = [x, y].map((shift, axis) => {
      const low = Math.min(this.size[axis] - 1, Math.max(0, (starts[axis] - shift) / scale));
      return [low, Math.min(this.size[axis], (this.box()[axis] - shift) / scale)];
    });
    const factor = Math.min(1, Math.sqrt(most / spans.reduce((area, [low, high]) => area * (high - low), 1)));
    const [[left, width], [top, height]] = spans.map(([low, high]) => {
      const length = Math.max(1, Math.floor((high - low) * factor));
      return [Math.floor((low + high - length) / 2), length];
    });
    return { left, top, width, height };
  }

  /** Mix source and result by their opacities: 0 shows the source, and 1 the result. */
  mix(strength) {
    this.strength = strength;
    this.paint();
  }

  /** Show bitmaps on the left and on the right in place of the pictures. Without bitmaps, the pictures are shown. */
  paint(left = null, right = null) {
    for (const [canvas, bitmap] of [[this.painted[0], left], [this.painted[1], right]]) {
      canvas.hidden = !bitmap;
      if (!bitmap) continue;
      [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
      canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
    }
    this.stage.classList.toggle("painted", Boolean(right));
    this.draw();
  }

  box() {
    return [this.stage.clientWidth, this.stage.clientHeight];
  }

  fit() {
    const [width, height] = this.box();
    const scale = Math.min(width / this.size[0], height / this.size[1], 16);
    this.view = { scale, x: (width - this.size[0] * scale) / 2, y: (height - this.size[1] * scale) / 2 };
    this.fitted = true;
    this.draw();
  }

  /** Zoom so that the point (x, y) of the stage stays where it is. */
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const [width, height] = this.box();
    const whole = Math.min(width / this.size[0], height / this.size[1], 16);
    const scale = Math.min(LARGEST, Math.max(whole, this.view.scale * factor));
    if (scale <= whole) {
      this.fit();
      return;
    }
    const by = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * by, y: y - (y - this.view.y) * by };
    this.fitted = false;
    this.move(0, 0);
  }

  /** Move the pictures, but not out of the stage. */
  move(dx, dy) {
    const sides = this.box();
    for (const [axis, key, by] of [[0, "x", dx], [1, "y", dy]]) {
      const extent = this.size[axis] * this.view.scale;
      const free = sides[axis] - extent;
      this.view[key] = free > 0 ? free / 2 : Math.min(0, Math.max(free, this.view[key] + by));
    }
    this.draw();
  }

  divide(part) {
    this.divided = Math.min(100, Math.max(0, part));
    this.draw();
  }

  draw() {
    const { scale, x, y } = this.view;
    const { before, other, under, after } = this.images;
    for (const image of [before, other, under, after, ...this.painted, this.part]) {
      const [left, top] = image === this.part ? this.place : [0, 0];
      image.style.transform = `translate(${x + left * scale}px, ${y + top * scale}px) scale(${scale})`;
      image.classList.toggle("sharp", scale * devicePixelRatio >= 2);
    }
    before.style.opacity = other.hidden ? 1 : 1 - this.strength;
    under.style.opacity = 1 - this.strength;
    after.style.opacity = other.style.opacity = this.strength;
    this.stage.classList.toggle("zoomed", !this.fitted);
    $("clip").style.clipPath = `inset(0 0 0 ${this.divided}%)`;
    const divider = $("divider");
    divider.style.left = `${this.divided}%`;
    divider.setAttribute("aria-valuenow", Math.round(this.divided));
    divider.setAttribute("aria-valuetext", `${Math.round(this.divided)}% ${$("tag-before").textContent.toLowerCase()}`);
    $("zoom-now").textContent = `${number(scale * 100)}%`;
  }

  listen() {
    $("zoom-in").addEventListener("click", () => this.zoom(STEP));
    $("zoom-out").addEventListener("click", () => this.zoom(1 / STEP));
    $("zoom-fit").addEventListener("click", () => this.fit());
    $("zoom-one").addEventListener("click", () => this.zoom(1 / devicePixelRatio / this.view.scale));
    $("full").addEventListener("click", () => this.toggleFull());
    document.addEventListener("fullscreenchange", () => this.markFull(Boolean(document.fullscreenElement)));
    this.stage.addEventListener("keydown", (event) => this.key(event));
    this.stage.addEventListener("wheel", (event) => {
      // The wheel scrolls the page, unless the picture has the focus or a modifier key is held.
      if (!event.ctrlKey && !event.metaKey && !this.stage.contains(document.activeElement)) return;
      event.preventDefault();
      const { left, top } = this.stage.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY / (event.deltaMode ? 20 : 400)), event.clientX - left, event.clientY - top);
    }, { passive: false });
    this.stage.addEventListener("pointerdown", (event) => this.down(event));
    this.stage.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.stage.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
  }

  /** Fill the screen with the picture, or the window where a browser offers no full screen. */
  toggleFull() {
    const full = $("full").getAttribute("aria-pressed") === "true";
    if (!document.fullscreenEnabled) {
      $("viewer").classList.toggle("full", !full);
      this.markFull(!full);
    } else if (full) document.exitFullscreen();
    else $("viewer").requestFullscreen();
  }

  markFull(full) {
    $("full").setAttribute("aria-pressed", full);
    this.fit();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const onDivider = event.target === $("divider");
    const far = event.shiftKey ? 10 : 2;
    if (onDivider && event.key in arrows) {
      const [dx, dy] = arrows[event.key];
      this.divide(this.divided + (dx - dy) * far);
    } else if (onDivider && (event.key === "Home" || event.key === "End")) this.divide(event.key === "Home" ? 0 : 100);
    else if (event.key in arrows && !this.fitted) this.move(...arrows[event.key].map((by) => -by * 20 * far));
    else if (event.key === "+" || event.key === "=") this.zoom(STEP);
    else if (event.key === "-") this.zoom(1 / STEP);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }

  down(event) {
    if (event.button > 0) return;
    const divider = $("divider").contains(event.target);
    if (divider || this.pointers.size || event.pointerType === "mouse" || !this.fitted) {
      this.stage.setPointerCapture(event.pointerId);
    }
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, divider });
    (divider ? $("divider") : this.stage).focus({ preventScroll: true, focusVisible: false });
    this.drag(event);
  }

  drag(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const { left, top, width } = this.stage.getBoundingClientRect();
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
    if (others.length) {
      const other = others[0];
      const apart = (at) => Math.hypot(at.x - other.x, at.y - other.y) || 1;
      const now = { x: event.clientX, y: event.clientY };
      this.zoom(apart(now) / apart(last), (now.x + other.x) / 2 - left, (now.y + other.y) / 2 - top);
    } else if (last.divider || this.fitted) this.divide(((event.clientX - left) / width) * 100);
    else this.move(dx, dy);
    Object.assign(last, { x: event.clientX, y: event.clientY });
  }
}
