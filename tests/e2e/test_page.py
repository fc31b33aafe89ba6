"""The page in a real browser: Debian's Chromium, driven by Playwright; of a server, and as static files."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import importlib.util
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
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from daelab import denoise_file
from daelab.denoising.noisy_images import write_noisy_file
from daelab.noise.grammar import parse_noise
from daelab.runs.ledger import Ledger
from daelab.web.about import list_samples
from daelab.web.static_page import RUNTIME, write_static_page

AXE = "axe-core@4.14.1"
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
PATIENCE = 60_000
LONGEST_FRAME = 0.25
"""Between two frames while a large picture is worked on, as a part of the time that takes: a page that did it itself
would show none meanwhile, on however busy a machine."""


def npm(package: str) -> Path:
    """An npm package's file, from a cache that outlives the tests; skips where there is neither it nor npm."""
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install playwright")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("Chromium is not installed: Debian's package is `chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # a container's root has no sandbox
        one = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs."""
    place = tmp_path_factory.mktemp("served")
    ledger = Ledger(f"sqlite:///{place / 'runs' / 'ledger.db'}")
    for name, status, loss in (("alpha", "finished", 0.01), ("beta", "running", 0.03), ("gamma", "finished", 0.02)):
        ledger.record(name, status=status, epochs=3, epochs_done=2, val_loss=loss, noise="type-1")
        (place / "runs" / name).mkdir()
        rows = f"epoch,val_loss,val_psnr\n1,{loss * 2},20\n2,{loss},{21 + loss}\n"
        (place / "runs" / name / "metrics.csv").write_text(rows)
    return place


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[str]:
    """The address of a server of this folder."""
    with served(place) as address:
        yield address


@contextmanager
def served(place: Path, *options: str) -> Iterator[str]:
    """The address of a server of its own process, in a folder with `runs`."""
    environment = os.environ | {"DAELAB_RUNS": str(place / "runs"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "daelab", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=place, env=environment) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"http://[^\s#]+", said)
            assert found, said
            yield found[0]
        finally:
            process.terminate()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that hears what goes wrong, and where it asks; it stands still, so that no colour is read half-way."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE)
    found = context.new_page()
    wrong: list[str] = []
    hosts: set[str] = set()
    found.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: wrong.append(str(error)))
    context.on("request", lambda request: hosts.add(re.sub(r"^(blob|data):.*|^(https?://[^/]+).*", r"\2", request.url)))
    yield found
    expected = {re.sub(r"^(https?://[^/]+).*", r"\1", found.url)}
    context.close()
    assert hosts - {""} <= expected
    refused = re.compile(r"the server responded with a status of (401|422)")
    assert [text for text in wrong if not refused.search(text)] == []


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
    """Wait for a text; without evaluating one, which the page's policy forbids."""
    import playwright.sync_api

    playwright.sync_api.expect(place).to_have_text(text, timeout=PATIENCE)


def changes(place: Any, name: str, before: str) -> None:
    """Wait until an attribute has another value."""
    import playwright.sync_api

    playwright.sync_api.expect(place).not_to_have_attribute(name, before, timeout=PATIENCE)


def done(page: Any) -> None:
    """Wait until the page has nothing to do any more."""
    page.wait_for_timeout(400)  # settings are taken up after a moment
    page.wait_for_selector("#working", state="hidden")


def downloaded(page: Any) -> tuple[str, bytes]:
    with page.expect_download() as started:
        page.click("#download")
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def test_a_dropped_picture_comes_back_as_the_command_line_gives_it(page: Any, server: str, tmp_path: Path) -> None:
    source = tmp_path / "bridge.png"
    source.write_bytes(png(noisy_picture(), Author="a friend"))
    ready(page, server)
    drop(page, source.name, source.read_bytes())
    page.wait_for_selector("#download:not([hidden])")
    assert downloaded(page) == (
        "bridge_clean.png",
        Path(denoise_file(source, model=page.input_value("#model")).result).read_bytes(),
    )
    assert "Identified noise" in page.inner_text("#inspection")
    assert page.locator("#histograms svg").count() == 2

    page.focus("#strength")
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    done(page)
    assert page.inner_text("#strength-now") == "60 %"
    weaker = denoise_file(source, tmp_path / "weaker.png", model=page.input_value("#model"), strength=0.6)
    assert downloaded(page)[1] == Path(weaker.result).read_bytes()


def test_noise_sliders_scores_and_the_divider(page: Any, server: str, tmp_path: Path) -> None:
    clean = tmp_path / "waves.jpg"
    Image.fromarray(noisy_picture()).save(clean, quality=90)
    ready(page, server)
    page.check("#noise-on")
    page.select_option("#preset", "type-1+2")
    assert page.locator("#levels input[type=range]").count() == 4
    page.focus("#level-0-std")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#noise-text") == "gaussian(0.2, 0.06) > multiplicative(0.2, 0.1)"
    page.fill("#seed", "5")
    paste(page, clean.name, clean.read_bytes(), "image/jpeg")
    page.wait_for_selector("#download:not([hidden])")
    write_noisy_file(str(clean), tmp_path / "waves_noisy.jpg", parse_noise(page.input_value("#noise-text")), 5)
    cleaned = denoise_file(tmp_path / "waves_noisy.jpg", model=page.input_value("#model"))
    assert downloaded(page) == ("waves_noisy_clean.jpg", Path(cleaned.result).read_bytes())
    done(page)
    assert re.search(r"PSNR\s+\d+\.\d\d dB\s+noisy \d+\.\d\d dB", page.inner_text("#facts"))
    assert page.locator("#histograms svg").count() == 3
    _divide(page)


def _divide(page: Any) -> None:
    """By mouse, and by keys; zoomed, both pictures move together."""
    page.evaluate("scrollTo(0, 0)")
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, y, steps=4)
    page.mouse.up()
    assert page.get_attribute("#divider", "aria-valuenow") == "25"
    assert page.evaluate("document.getElementById('clip').style.clipPath") == "inset(0px 0px 0px 25%)"
    page.focus("#divider")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#divider", "aria-valuenow") == "27"
    page.keyboard.press("End")
    assert page.get_attribute("#divider", "aria-valuenow") == "100"
    page.focus("#stage")
    before = page.inner_text("#zoom-now")
    page.keyboard.press("+")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#zoom-now") != before
    places = page.evaluate("['before', 'after'].map((id) => document.getElementById(id).style.transform)")
    assert places[0] == places[1]
    page.keyboard.press("0")
    assert page.inner_text("#zoom-now") == before


BROKEN = {
    "text.png": (b"a text", "text.png: not a picture"),
    "half.png": (png(noisy_picture())[:3000], "half.png: a broken picture"),
    "empty.tif": (b"", "empty.tif: a broken picture: it is empty"),
}


def test_a_broken_file_shows_its_reason(page: Any, server: str) -> None:
    ready(page, server)
    for name, (data, reason) in BROKEN.items():
        drop(page, name, data, "image/tiff" if name.endswith("tif") else "image/png")
        expect(page.locator("#alert"), re.compile(f"^{re.escape(reason)}"))
        assert page.is_visible("#drop")


@pytest.mark.parametrize("host, tiles", [("server", 48), ("still", 192)])
def test_a_large_picture_shows_progress_does_not_freeze_the_page_and_can_be_cancelled(
    page: Any, host: str, tiles: int, request: pytest.FixtureRequest
) -> None:
    large = np.tile(noisy_picture(), (32, 32, 1))[:3000, :4000]
    ready(page, request.getfixturevalue(host))
    page.select_option("#model", "model-c")  # whatever is in the picture
    page.evaluate(
        """() => {
          window.longest = 0;
          window.began = performance.now();
          let last = window.began;
          const tick = (now) => {
            window.longest = Math.max(window.longest, now - last);
            last = now;
            requestAnimationFrame(tick);
          };
          requestAnimationFrame(tick);
        }"""
    )
    page.set_input_files("#file", files=[{"name": "large.png", "mimeType": "image/png", "buffer": png(large)}])
    page.wait_for_selector("#viewer:not([hidden])")
    page.wait_for_selector("#run:not([disabled])")  # of this size it waits to be asked
    assert not page.is_visible("#download")
    page.click("#run")
    expect(page.locator("#doing"), re.compile(rf"Denoising: [1-9]\d* of {tiles} tiles"))
    longest, took = page.evaluate("[window.longest, performance.now() - window.began]")
    page.click("#cancel")
    page.wait_for_selector("#working", state="hidden")
    assert not page.is_visible("#alert")
    assert longest < max(1000, LONGEST_FRAME * took)


def test_runs_are_sorted_filtered_and_drawn_while_one_trains(page: Any, server: str, place: Path) -> None:
    ready(page, server)
    page.click("#tab-runs")
    page.wait_for_selector("#chart polyline")
    names = page.locator("#ledger tbody tr td:nth-child(2)")
    page.click("#ledger thead button:text-is('Val. loss')")
    assert names.all_inner_texts() == ["alpha", "gamma", "beta"]
    page.click("#ledger thead button:text-is('Val. loss')")
    assert names.all_inner_texts() == ["beta", "gamma", "alpha"]
    assert page.get_attribute("#ledger th[data-key=val_loss]", "aria-sort") == "descending"
    assert page.locator("#chart polyline").count() == 3
    page.uncheck("[data-run=gamma]")
    page.wait_for_selector("#chart polyline:nth-of-type(3)", state="detached")
    assert page.locator("#chart polyline").count() == 2
    page.fill("#filter", "gam")
    assert names.all_inner_texts() == ["gamma"]
    page.fill("#filter", "")
    page.select_option("#status", "running")
    assert names.all_inner_texts() == ["beta"]
    assert page.inner_text("#live") == "1 training now, updated live"
    curve = page.locator("#chart polyline").first
    drawn = curve.get_attribute("points")
    with (place / "runs" / "beta" / "metrics.csv").open("a") as file:
        file.write("3,0.001,24\n")
    changes(curve, "points", drawn)
    assert page.inner_text("#board-note").startswith("There is no leaderboard yet")


def test_a_server_with_a_token_asks_says_what_is_wrong_and_goes_on(page: Any, tmp_path: Path) -> None:
    token = "a-token-of-the-tests"
    with served(tmp_path, "--token", token) as address:
        page.goto(address)
        page.wait_for_selector("#token-dialog[open]")
        assert not page.is_visible("#token-wrong")
        page.keyboard.press("Enter")  # nothing is not a token
        assert page.is_visible("#token-dialog")
        page.keyboard.type("another-token-of-12")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-wrong:not([hidden])")
        assert page.inner_text("#token-wrong") == "This token is wrong."
        page.keyboard.type(token)  # over the wrong one, which is selected
        page.keyboard.press("Enter")
        page.wait_for_selector("html[data-ready]")
        assert not page.is_visible("#token-dialog")
        drop(page, "bridge.png", png(noisy_picture()))
        page.wait_for_selector("#download:not([hidden])")
        page.reload()  # it is remembered, as long as the tab is open
        page.wait_for_selector("html[data-ready]")
        assert not page.is_visible("#token-dialog")
        page.evaluate("sessionStorage.clear()")
        page.goto("about:blank")
        ready(page, f"{address}#token={token}")
        assert token not in page.evaluate("location.href")
        assert not page.is_visible("#token-dialog")


def test_no_serious_fault_of_accessibility_at_any_width_or_colour(page: Any, server: str) -> None:
    package = npm(AXE)
    assert base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() == AXE_SHA512
    with tarfile.open(package) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        axe = file.read().decode()
    ready(page, server)
    page.evaluate(axe)  # not as a script of the page, which its policy would refuse
    _no_faults(page)
    if list_samples():
        page.click("[data-sample=dahlia]")
        assert page.is_checked("#noise-on")
    else:
        page.check("#noise-on")
        drop(page, "flower.jpg", png(noisy_picture()))
    page.wait_for_selector("#download:not([hidden])")
    done(page)
    assert page.inner_text("#what").startswith("flower.jpg")
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        for tab, shown in (("#tab-denoise", "#histograms svg"), ("#tab-runs", "#chart polyline")):
            page.click(tab)
            page.wait_for_selector(shown)
            _no_faults(page)


def _no_faults(page: Any) -> None:
    found = page.evaluate("axe.run().then((result) => result.violations)")
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in serious] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page as static files, on a host that knows nothing of daelab."""
    folder = tmp_path_factory.mktemp("page") / "site"
    write_static_page(folder, ["model-c"], runtime=npm(RUNTIME))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{host.server_port}/"
        host.shutdown()


def test_the_static_page_gives_the_picture_of_the_command_line(page: Any, still: str, tmp_path: Path) -> None:
    source = tmp_path / "bridge.png"
    source.write_bytes(png(noisy_picture(300, 530)))  # of several tiles, of no multiple
    ready(page, still)
    assert not page.is_visible("#tab-runs")
    page.check("#noise-on")
    page.select_option("#preset", "published-code")
    page.fill("#seed", "3")
    drop(page, source.name, source.read_bytes())
    page.wait_for_selector("#download:not([hidden])")
    done(page)
    name, data = downloaded(page)
    write_noisy_file(str(source), tmp_path / "bridge_noisy.png", parse_noise("published-code"), 3)
    wanted = denoise_file(tmp_path / "bridge_noisy.png", model="model-c").result
    assert name == "bridge_noisy_clean.png"
    pixels = [np.asarray(Image.open(file)).astype(int)[..., :3] for file in (io.BytesIO(data), wanted)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1
    scores = api_scores(source, tmp_path / "bridge_noisy.png", Path(wanted))
    assert [float(text) for text in re.findall(r"\d+\.\d+(?= dB)", page.inner_text("#facts"))] == pytest.approx(
        scores, abs=0.02
    )


def api_scores(clean: Path, noisy: Path, denoised: Path) -> list[float]:
    """PSNR of the denoised and of the noisy picture, as the command line says it."""
    from daelab.denoising.image_comparison import compare_images
    from daelab.image_io.read import read_picture

    truth = read_picture(clean)
    return [
        float(compare_images(truth, read_picture(file), "", "", ["psnr"])["all"]["psnr"] or 0)
        for file in (denoised, noisy)
    ]


def test_the_static_page_says_why_it_reads_no_file(page: Any, still: str) -> None:
    ready(page, still)
    drop(page, "text.png", b"a text")
    page.wait_for_selector("#alert:not([hidden])")
    assert page.inner_text("#alert")
