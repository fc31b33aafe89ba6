// The start of the page: its tabs, its theme and its token.

import { Backend } from "./backend.js";
import { $ } from "./dom.js";
import { startDenoise } from "./denoise.js";
import { startRuns } from "./runs.js";

const kind = document.documentElement.dataset.backend;

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const kept = localStorage.getItem("theme");
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  const now = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const name = () => $("theme").setAttribute("aria-label", `Switch to the ${now() === "dark" ? "light" : "dark"} theme`);
  $("theme").addEventListener("click", () => {
    root.dataset.theme = now() === "dark" ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    name();
  });
  name();
}

/** Set up tabs as the ARIA practices describe: arrow keys choose one, and only the chosen one is in the tab order. */
function tabs(shown) {
  const all = [...document.querySelectorAll("[role=tab]")].filter((tab) => !tab.hidden);
  const panelOf = (tab) => tab.getAttribute("aria-controls");
  // What follows the panel's name in the address is the panel's own.
  const addressed = () => all.find((tab) => location.hash.slice(1).split(/[/?]/)[0] === panelOf(tab));
  const choose = (tab, focus, address = `#${panelOf(tab)}`) => {
    for (const one of all) {
      const chosen = one === tab;
      one.setAttribute("aria-selected", chosen);
      one.tabIndex = chosen ? 0 : -1;
      $(panelOf(one)).hidden = !chosen;
    }
    if (focus) tab.focus();
    document.title = tab.id === "tab-runs" ? "daelab: runs" : "daelab: denoise a picture";
    history.replaceState(null, "", address);
    shown(panelOf(tab));
  };
  for (const tab of all) {
    tab.addEventListener("click", () => choose(tab, false));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) choose(all[(all.indexOf(tab) + step + all.length) % all.length], true);
    });
  }
  const follow = () => choose(addressed(), false, location.hash);
  addEventListener("hashchange", () => addressed() && follow());
  if (addressed()) follow();
  else choose(all[0], false);
}

/** Return the token from #token=..., or from this browser tab, or "". */
function token() {
  const given = /^#token=(.+)$/.exec(location.hash);
  if (given) {
    sessionStorage.setItem("token", decodeURIComponent(given[1]));
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem("token") ?? "";
}

/** Ask for the token. If one was given before, say that it was wrong. */
function ask() {
  const dialog = $("token-dialog");
  $("token-wrong").hidden = !sessionStorage.getItem("token");
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("token", $("token").value);
      resolve($("token").value);
    }, { once: true });
    dialog.showModal();
    $("token").select();
  });
}

theme();
const backend = new Backend(kind, token(), ask);
const denoise = startDenoise(backend, kind);
if (kind === "server") {
  const runs = startRuns(backend);
  tabs((panel) => runs.show(panel === "runs"));
} else {
  $("tab-runs").hidden = true;
  tabs(() => {});
  // After a reload the page works without a network. A page without https has no service worker.
  navigator.serviceWorker?.register(new URL("../offline.js", import.meta.url));
}
await denoise;
