// The result as a file: its format, the download, a copy in the clipboard, and the address to share.

import { $, h } from "./dom.js";
import { bytes } from "./words.js";

const WITH_QUALITY = ["JPEG", "WEBP"];

export class Output {
  /**
   * @param formats The names of formats that can be chosen.
   * @param make    An async function that makes and returns the file for the settings now, or null if it is cancelled.
   * @param blend   An async function that returns what is shown as PNG.
   * @param address A function that returns the address of the page with the settings.
   * @param changed A function that is called when the format or quality changes.
   */
  constructor(formats, { make, blend, address, changed }) {
    this.make = make;
    this.url = null;
    $("format").append(...formats.map((name) => h("option", { value: name }, name === "WEBP" ? "WebP" : name)));
    $("format").addEventListener("change", () => {
      $("quality-row").hidden = !WITH_QUALITY.includes($("format").value);
      changed();
    });
    $("quality").addEventListener("input", () => {
      $("quality-now").textContent = $("quality").value;
      changed();
    });
    $("download").addEventListener("click", (event) => this.download(event));
    $("copy").hidden = !navigator.clipboard?.write;
    $("copy").addEventListener("click", () => this.copy($("copy"), () => new ClipboardItem({ "image/png": blend() })));
    $("share").hidden = !navigator.clipboard?.writeText;
    $("share").addEventListener("click", () => this.copy($("share"), () => new ClipboardItem({ "text/plain": new Blob([address().href], { type: "text/plain" }) })));
  }

  get settings() {
    const format = $("format").value;
    return { format, quality: WITH_QUALITY.includes(format) ? Number($("quality").value) : null };
  }

  reset() {
    $("format").value = "";
    $("quality-row").hidden = true;
  }

  hide() {
    $("output").hidden = true;
    $("download").hidden = true;
  }

  /** Offer a file, or to make it if it is null. */
  offer(file) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = file && URL.createObjectURL(file);
    Object.assign($("download"), { href: this.url ?? "#download", download: file?.name ?? "", hidden: false });
    $("download").replaceChildren("Download", h("small", {}, file ? `${file.name}, ${bytes(file.size)}` : "made with these settings when you click"));
    $("output").hidden = false;
  }

  async download(event) {
    if (this.url) return;
    event.preventDefault();
    const file = await this.make();
    if (!file) return;
    this.offer(file);
    $("download").click();
  }

  async copy(button, item) {
    const text = button.textContent;
    try {
      await navigator.clipboard.write([item()]);
      button.textContent = "Copied";
    } catch {
      button.textContent = "The browser did not allow it";
    }
    setTimeout(() => { button.textContent = text; }, 2000);
  }
}

/** Save a blob as a file. */
export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
