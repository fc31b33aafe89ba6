// The ways in which pictures come to the page: a choice of files, the camera, a drop of files or folders, and a paste.

import { $ } from "./dom.js";

const LINK = "A link was dropped, not a picture. Save the picture on your device, and drop its file here.";
const TEXT = "Text was dropped, not a picture. Drop the file of a picture here.";
const PASTED = "The clipboard holds no picture. Copy a picture and paste it here, or choose its file.";
const MOST = 1000;

/**
 * Listen for pictures.
 *
 * @param take    A function of a list of files, and of how many files of folders were left out.
 * @param refuse  A function of a text that says what to do instead.
 * @param accepts A function of a file name: whether a file of a folder is a picture.
 */
export function listenForPictures({ take, refuse, accepts }) {
  for (const [button, input] of [["choose", "file"], ["camera", "camera-file"], ["more", "file"]]) {
    $(button).addEventListener("click", () => $(input).click());
  }
  for (const input of [$("file"), $("camera-file")]) {
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = "";
      if (files.length) take(files, 0);
    });
  }
  for (const place of [$("drop"), $("viewer")]) {
    place.addEventListener("dragenter", () => place.classList.add("over"));
    place.addEventListener("dragleave", (event) => place.contains(event.relatedTarget) || place.classList.remove("over"));
  }
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    for (const place of [$("drop"), $("viewer")]) place.classList.remove("over");
    if ($("denoise").hidden) return;
    const { types } = event.dataTransfer;
    const [files, left] = await droppedFiles(event.dataTransfer, accepts);
    if (files.length) take(files, left);
    else if (left || types.includes("Files")) refuse("There is no picture in this folder.");
    else refuse(types.includes("text/uri-list") ? LINK : TEXT);
  });
  addEventListener("paste", (event) => {
    if ($("denoise").hidden) return;
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) take(files, 0);
    else if (!event.target.closest?.("input, textarea")) refuse(PASTED);
  });
}

/** Return the dropped files, those of folders too, and how many files of folders are no pictures. */
async function droppedFiles(transfer, accepts) {
  // All entries are taken before the first wait, after which the list is empty.
  const given = [...transfer.items].filter(({ kind }) => kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [];
  let left = 0;
  for (const one of given.filter(Boolean)) {
    if (!one.isDirectory) {
      files.push(one instanceof File ? one : await fileOf(one));
      continue;
    }
    for await (const entry of walk(one)) {
      if (files.length < MOST && !entry.name.startsWith(".") && accepts(entry.name)) files.push(await fileOf(entry));
      else left += 1;
    }
  }
  return [files, left];
}

const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

async function* walk(folder) {
  const reader = folder.createReader();
  for (;;) {
    // Each call returns some of the entries, and the last one returns none.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return;
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (entry.isDirectory) yield* walk(entry);
      else yield entry;
    }
  }
}
