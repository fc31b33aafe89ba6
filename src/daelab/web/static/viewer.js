// Two pictures on top of each other with a divider. They are zoomed and moved together.

import { $, number } from "./dom.js";

const STEP = 1.25;
const LARGEST = 64;

export class Viewer {
  constructor() {
    this.stage = $("stage");
    this.images = [$("before"), $("after")];
    this.urls = [];
    this.size = [1, 1];
    this.view = { scale: 1, x: 0, y: 0 };
    this.fitted = true;
    this.part = 50;
    this.pointers = new Map();
    this.listen();
    new ResizeObserver(() => (this.fitted ? this.fit() : this.draw())).observe(this.stage);
  }

  /** Show a picture and, if there is one, its denoised version. Both are blobs that the browser can show. */
  async show(before, after, names) {
    const urls = [before, after].map((blob) => (blob ? URL.createObjectURL(blob) : null));
    const loaded = urls.filter(Boolean).map(async (url) => {
      const image = new Image();
      image.src = url;
      await image.decode();
      return [image.naturalWidth, image.naturalHeight];
    });
    let sizes;
    try {
      sizes = await Promise.all(loaded);
    } catch {
      urls.forEach((url) => url && URL.revokeObjectURL(url));
      throw new Error("this browser cannot show the picture: it is broken, or its format is not supported");
    }
    this.urls.forEach((url) => url && URL.revokeObjectURL(url));
    this.urls = urls;
    const other = sizes[0].some((side, axis) => side !== this.size[axis]);
    this.size = sizes[0];
    this.images.forEach((image, place) => {
      image.hidden = !urls[place];
      if (urls[place]) image.src = urls[place];
      else image.removeAttribute("src");
      image.alt = `the ${names[place]} picture`;
      image.width = this.size[0];
      image.height = this.size[1];
    });
    this.stage.style.setProperty("--aspect", this.size[0] / this.size[1]);
    const single = !after;
    this.stage.classList.toggle("single", single);
    for (const id of ["clip", "divider", "tag-after"]) $(id).hidden = single;
    $("tag-before").textContent = names[0];
    $("tag-after").textContent = names[1];
    if (other || this.fitted) this.fit();
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
    this.part = Math.min(100, Math.max(0, part));
    this.draw();
  }

  draw() {
    const { scale, x, y } = this.view;
    for (const image of this.images) {
      image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
      image.classList.toggle("sharp", scale * devicePixelRatio >= 2);
    }
    this.stage.classList.toggle("zoomed", !this.fitted);
    $("clip").style.clipPath = `inset(0 0 0 ${this.part}%)`;
    const divider = $("divider");
    divider.style.left = `${this.part}%`;
    divider.setAttribute("aria-valuenow", Math.round(this.part));
    divider.setAttribute("aria-valuetext", `${Math.round(this.part)} % noisy`);
    $("zoom-now").textContent = `${number(scale * 100)} %`;
  }

  listen() {
    $("zoom-in").addEventListener("click", () => this.zoom(STEP));
    $("zoom-out").addEventListener("click", () => this.zoom(1 / STEP));
    $("zoom-fit").addEventListener("click", () => this.fit());
    $("zoom-one").addEventListener("click", () => this.zoom(1 / devicePixelRatio / this.view.scale));
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

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const onDivider = event.target === $("divider");
    const far = event.shiftKey ? 10 : 2;
    if (onDivider && event.key in arrows) {
      const [dx, dy] = arrows[event.key];
      this.divide(this.part + (dx - dy) * far);
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
