"""What browsers do in their own ways, in Debian's Firefox: pictures of both pages, sliders, files and curves.

`DAELAB_BROWSERS=chromium,firefox pytest tests/e2e` runs every test of the page in both browsers.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import launched, watched
from pages import done, drop, hosted, noisy_picture, npm, png, ready, served
from PIL import Image

from daelab import denoise_file
from daelab.runs.ledger import Ledger
from daelab.web.static_page import RUNTIME, write_static_page

KEEP_FILES = """() => {
  const make = URL.createObjectURL;
  window.files = new Map();
  URL.createObjectURL = (blob) => {
    const address = make.call(URL, blob);
    window.files.set(address, blob);
    return address;
  };
}"""
"""Playwright does not hear of Firefox's downloads, so that the files are read before they are saved."""
READ_FILE = """async () => {
  const { download, href } = document.getElementById("download");
  const bytes = new Uint8Array(await window.files.get(href).arrayBuffer());
  return [download, btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))];
}"""


@pytest.fixture(scope="module")
def firefox(playwright: Any) -> Iterator[Any]:
    with launched(playwright, "firefox") as found:
        yield found


def offered(page: Any) -> tuple[str, bytes]:
    name, data = page.evaluate(READ_FILE)
    return name, base64.b64decode(data)


def test_a_picture_and_curves_of_the_server(firefox: Any, tmp_path: Path) -> None:
    source = tmp_path / "bridge.png"
    source.write_bytes(png(noisy_picture()))
    Ledger(f"sqlite:///{tmp_path / 'runs' / 'ledger.db'}").record("alpha", status="finished", epochs_done=2)
    (tmp_path / "runs" / "alpha").mkdir()
    (tmp_path / "runs" / "alpha" / "metrics.csv").write_text("epoch,val_psnr\n1,20\n2,22\n")
    with watched(firefox) as page, served(tmp_path) as address:
        ready(page, address)
        page.evaluate(KEEP_FILES)
        drop(page, source.name, source.read_bytes())
        page.wait_for_selector("#download:not([hidden])")
        done(page)
        assert offered(page) == ("bridge_clean.png", Path(denoise_file(source).result).read_bytes())
        page.locator("#strength").fill("0.5")
        page.locator("#chroma").fill("1")
        page.wait_for_selector("#painted:not([hidden])")
        page.click("#download")
        page.wait_for_selector("#download[href^=blob]")
        weaker = denoise_file(source, tmp_path / "weaker.png", strength=0.5, chroma=1)
        assert offered(page)[1] == Path(weaker.result).read_bytes()
        page.click("#tab-runs")
        page.wait_for_selector("#chart polyline")
        assert page.inner_text("#legend") == "alpha 22.00"


def test_a_picture_of_the_static_page(firefox: Any, tmp_path: Path) -> None:
    write_static_page(tmp_path / "site", ["photo-s"], runtime=npm(RUNTIME))
    with watched(firefox) as page, hosted(tmp_path / "site") as address:
        ready(page, address)
        page.evaluate(KEEP_FILES)
        drop(page, "bridge.png", png(noisy_picture()))
        page.wait_for_selector("#download:not([hidden])")
        assert " of 255" in page.inner_text("#inspection")
        assert "\nphoto-s\n" in page.inner_text("#facts")
        name, data = offered(page)
        (tmp_path / "bridge.png").write_bytes(png(noisy_picture()))
        wanted = denoise_file(tmp_path / "bridge.png", model="photo-s").result
        pixels = [np.asarray(Image.open(file)).astype(int)[..., :3] for file in (io.BytesIO(data), wanted)]
        assert name == "bridge_clean.png"
        assert np.abs(pixels[0] - pixels[1]).max() <= 1
