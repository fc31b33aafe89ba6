"""docs/images/: the pictures in the README, taken of the page and of a report in a real Chromium.

    python tools/screenshots.py

A network is trained for a minute on the bundled photographs; what is shown of them is the cat, which is CC0.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from daelab._util.files import replace_file

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
WIDE, PHONE = (1280, 860), (390, 844)
LARGEST = 250_000
"""Bytes of a picture."""
TRAIN = ("--recipe", "quick", "--name", "first", "--epochs", "10", "--set", "data.train=2000")


def main() -> None:
    """Take all pictures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    args = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="daelab-shots-") as folder, start_chromium() as browser:
        runs = Path(folder) / "runs"
        environment = os.environ | {"DAELAB_RUNS": str(runs), "DAELAB_LEDGER": f"sqlite:///{runs}/ledger.db"}
        subprocess.run([sys.executable, "-m", "daelab", "train", *TRAIN], env=environment, cwd=folder, check=True)
        with serve(environment, folder) as address:
            for name, scheme, size in (
                ("page-light", "light", WIDE),
                ("page-dark", "dark", WIDE),
                ("page-phone", "light", PHONE),
            ):
                save_picture(capture_page(browser, address, scheme, size), args.out / f"{name}.png")
        save_picture(capture_report(browser, runs / "first" / "report.html"), args.out / "report.png")


@contextmanager
def start_chromium() -> Iterator[Any]:
    """Open the browser that the tests use."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        print("Chromium is not installed: Debian's package is `chromium`", file=sys.stderr)
        raise SystemExit(2)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def serve(environment: dict[str, str], folder: str) -> Iterator[str]:
    """Start a server of these runs and yield its address."""
    command = [sys.executable, "-m", "daelab", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+", process.stdout.readline())
            assert address
            yield address[0]
        finally:
            process.terminate()


def open_page(browser: Any, scheme: str, size: tuple[int, int]) -> Any:
    """Open an empty page without animations."""
    width, height = size
    viewport = {"width": width, "height": height}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    context.set_default_timeout(120_000)
    return context.new_page()


def capture_page(browser: Any, address: str, scheme: str, size: tuple[int, int]) -> bytes:
    """Capture the page with a sample, noisy and denoised."""
    shown = open_page(browser, scheme, size)
    shown.goto(address)
    shown.wait_for_selector("html[data-ready]")
    shown.check("#noise-on")
    shown.select_option("#preset", "type-1")
    shown.click("[data-sample=cat]")
    shown.wait_for_selector("#download:not([hidden])")
    shown.wait_for_selector("#working", state="hidden")
    shown.wait_for_selector("#histograms svg")
    shown.evaluate("scrollTo(0, 0)")
    return capture(shown)


def capture_report(browser: Any, path: Path) -> bytes:
    """Capture the top of a run's report as far as the curves; all bundled photographs follow below."""
    shown = open_page(browser, "light", (1280, 1080))
    shown.goto(path.as_uri())
    return capture(shown)


def capture(shown: Any) -> bytes:
    """Capture what is visible, and close the page."""
    picture: bytes = shown.screenshot()
    shown.context.close()
    return picture


def save_picture(picture: bytes, path: Path) -> None:
    """Write a picture in 256 colours; a wide one at three quarters of its size, as the README shows it."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    if image.width > 1000:
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)
    palette = image.quantize(256, kmeans=3)
    stream = io.BytesIO()
    image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(stream, "PNG", optimize=True)
    if stream.tell() > LARGEST:
        raise SystemExit(f"{path.name} would have {stream.tell():,} bytes; {LARGEST:,} are allowed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as part:
        part.write_bytes(stream.getvalue())
    print(f"{path.name}: {stream.tell():,} bytes")


if __name__ == "__main__":
    main()
