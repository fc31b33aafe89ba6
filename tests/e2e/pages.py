"""Helpers that the tests of the page share: a server, a static page, and the actions of a visitor in a browser."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

AXE = "axe-core@4.14.1"
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
PATIENCE = 60_000
START = subprocess.Popen
"""What starts a process even where the fixture `forked` lets others be forks."""


def npm(package: str) -> Path:
    """Return the file of an npm package from a cache; skip the test if there is neither the file nor npm."""
    cache = platformdirs.user_cache_path("daelab-tests")
    place = cache / f"{package.replace('@', '-')}.tgz"
    if not place.exists():
        if shutil.which("npm") is None:
            pytest.skip(f"npm is not installed, which fetches {package}: Debian's package is `npm`")
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", package, "--silent", "--pack-destination", cache]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cache, timeout=120)
        if done.returncode != 0 or not place.exists():
            pytest.skip(f"npm did not fetch {package}: {done.stderr.strip()[-200:]}")
    return place


@contextmanager
def served(place: Path, *options: str) -> Iterator[str]:
    """Return the address of a server in a process of its own, in a folder with `runs`.

    It is no fork of the test's process: it lives through many tests, as a server of a user does.
    """
    environment = os.environ | {"DAELAB_RUNS": str(place / "runs"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "daelab", "serve", "--port", "0", *options]
    log, pipe = place / "server.log", subprocess.PIPE
    with (
        log.open("w") as errors,
        START(command, stdout=pipe, stderr=errors, text=True, cwd=place, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"http://[^\s#]+", said)
            assert found, log.read_text()
            yield found[0]
            assert process.poll() is None, f"the server ended, with code {process.returncode}: {log.read_text()}"
        finally:
            process.terminate()


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """Return the address of a host of static files without daelab."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{host.server_port}/"
        host.shutdown()


def png(pixels: np.ndarray, **said: str) -> bytes:
    stream, info = io.BytesIO(), PngInfo()
    for key, text in said.items():
        info.add_text(key, text)
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=info, dpi=(72, 72))
    return stream.getvalue()


def noisy_picture(height: int = 96, width: int = 128) -> np.ndarray:
    rng = np.random.default_rng(0)
    waves = np.sin(np.linspace(0, 9, width))[None, :, None] * np.cos(np.linspace(0, 7, height))[:, None, None]
    return (120 + 60 * waves + rng.normal(0, 20, (height, width, 3))).clip(0, 255).astype(np.uint8)


HAND = """([how, name, type, data]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type }));
  const said = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true };
  const event = how === "drop" ? new DragEvent(how, said) : new ClipboardEvent(how, said);
  document.getElementById("drop").dispatchEvent(event);
}"""


def drop(page: Any, name: str, data: bytes, media: str = "image/png") -> None:
    page.evaluate(HAND, ["drop", name, media, base64.b64encode(data).decode()])


def paste(page: Any, name: str, data: bytes, media: str) -> None:
    page.evaluate(HAND, ["paste", name, media, base64.b64encode(data).decode()])


def ready(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("html[data-ready]")


def expect(place: Any, text: re.Pattern[str]) -> None:
    """Wait for a text without evaluating scripts, which the page's policy forbids."""
    import playwright.sync_api

    playwright.sync_api.expect(place).to_have_text(text, timeout=PATIENCE)


def changes(place: Any, name: str, before: str) -> None:
    """Wait until an attribute has another value."""
    import playwright.sync_api

    playwright.sync_api.expect(place).not_to_have_attribute(name, before, timeout=PATIENCE)


def done(page: Any) -> None:
    """Wait until the page is idle."""
    page.wait_for_timeout(400)  # settings are taken up after a moment
    page.wait_for_selector("#working", state="hidden")


def downloaded(page: Any) -> tuple[str, bytes]:
    with page.expect_download() as started:
        page.click("#download")
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


HAND_TEXT = """([how, type, text]) => {
  const transfer = new DataTransfer();
  transfer.setData(type, text);
  const said = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true };
  const event = how === "drop" ? new DragEvent(how, said) : new ClipboardEvent(how, said);
  document.getElementById("drop").dispatchEvent(event);
}"""


@cache
def read_axe() -> str:
    """Return the script that finds faults of accessibility."""
    package = npm(AXE)
    assert base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() == AXE_SHA512
    with tarfile.open(package) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()


LOOKS = (("light", 1280), ("dark", 390), ("light", 320))
"""The colour schemes and widths in which pages are examined."""
ONE_LOOK = (("dark", 320),)
"""That in which a state is examined that differs little from another one."""


def find_faults(page: Any, state: str, looks: tuple[tuple[str, int], ...] = LOOKS) -> None:
    """Check that the page has no accessibility fault and no sideways scrolling, in several colors and widths."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(read_axe())  # not as a script of the page, which its policy would refuse
    for scheme, width in looks:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        faults = page.evaluate("axe.run().then((result) => result.violations)")
        report = [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in faults]
        assert (state, scheme, width, report) == (state, scheme, width, [])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (state, scheme, width)
    page.set_viewport_size({"width": 1280, "height": 900})
