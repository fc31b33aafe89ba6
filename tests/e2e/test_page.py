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
import urllib.parse
import zipfile
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
    assert page.inner_text("#inspection").startswith("Looks like ")
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


def turned(orientation: int, form: str) -> bytes:
    """A picture that is wider than high, and whose EXIF says how it is turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    Image.fromarray(noisy_picture()).save(stream, form, exif=exif, **options)
    return stream.getvalue()


SIDES = """() => ['before', 'after'].map((id) => document.getElementById(id)).map((one) => {
  const canvas = new OffscreenCanvas(one.naturalWidth, one.naturalHeight);
  const context = canvas.getContext("2d");
  context.drawImage(one, 0, 0);
  const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
  return { size: [width, height], data: [...data] };
})"""


@pytest.mark.parametrize("host, form", [("server", "JPEG"), ("server", "TIFF"), ("still", "JPEG")])
def test_original_and_result_stand_upright_alike(
    page: Any, host: str, form: str, request: pytest.FixtureRequest
) -> None:
    ready(page, request.getfixturevalue(host))
    page.select_option("#model", "model-c")
    # A TIFF takes the same way through the page, so that two turns suffice.
    for orientation in (3, 6) if form == "TIFF" else range(1, 9):
        data, upright = turned(orientation, form), Image.fromarray(noisy_picture())
        if orientation in TURNS:
            upright = upright.transpose(TURNS[orientation])
        name = f"turned-{orientation}.{form.lower()}"
        drop(page, name, data, f"image/{form.lower()}")
        expect(page.locator("#what"), re.compile(re.escape(name)))
        done(page)
        page.select_option("#model", "model-c")  # one's own next picture starts with the first choice
        done(page)
        before, after = page.evaluate(SIDES)
        assert before["size"] == after["size"] == list(upright.size)
        sides = [np.array(side["data"], float).reshape(*upright.size[::-1], 4)[..., :3] for side in (before, after)]
        assert np.abs(sides[0] - np.asarray(upright)).mean() < 6  # what JPEG loses
        # model-c changes the brightness, so that only the pattern can be compared
        grey = [np.asarray(side).mean(2).ravel() for side in (*sides, upright)]
        assert min(np.corrcoef(grey)[0]) > 0.8


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How Pillow turns a picture upright, by the orientation."""


def slide(page: Any, strength: float) -> None:
    page.locator("#strength").fill(str(strength))


def test_ones_own_picture_starts_clean_after_another(page: Any, server: str) -> None:
    ready(page, server)
    drop(page, "first.png", png(noisy_picture()))
    done(page)
    page.check("#noise-on")
    page.select_option("#model", "model-c")
    slide(page, 0.4)
    done(page)
    paste(page, "second.png", png(noisy_picture(64, 80)), "image/png")
    expect(page.locator("#what"), re.compile("second.png, 80 × 64"))
    done(page)
    assert not page.is_checked("#noise-on")
    assert page.input_value("#model") == "automatic"
    assert page.inner_text("#strength-now") == "100 %"
    assert page.inner_text("#tag-before") == "Original"


def test_a_model_that_does_not_fit_is_flagged_whenever_it_is_chosen(page: Any, server: str) -> None:
    ready(page, server)
    drop(page, "bridge.png", png(noisy_picture()))
    done(page)
    assert not page.is_visible(".warning")
    page.select_option("#model", "photo-s")  # it was trained for the same noise as photo-m
    done(page)
    assert not page.is_visible(".warning")
    page.select_option("#model", "model-c")
    assert "was made for the paper's noise" in page.inner_text(".warning")
    page.click("text=Use photo-m instead")
    done(page)
    assert page.input_value("#model") == "photo-m"
    assert not page.is_visible(".warning")
    assert "\nphoto-m\n" in page.inner_text("#facts")


def test_the_static_page_flags_a_model_of_the_paper(page: Any, still: str) -> None:
    ready(page, still)
    drop(page, "bridge.png", png(noisy_picture()))
    done(page)
    assert "was made for the paper's noise" in page.inner_text(".warning")
    page.check("#noise-on")
    done(page)
    assert not page.is_visible(".warning")
    assert "does not identify noise" in page.inner_text("#promise") or not page.is_visible("#promise")


def test_strength_is_shown_told_and_saved_alike(page: Any, server: str, tmp_path: Path) -> None:
    source = tmp_path / "bridge.png"
    source.write_bytes(png(noisy_picture()))
    ready(page, server)
    drop(page, source.name, source.read_bytes())
    done(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urllib.parse.urlsplit(request.url).path))
    slide(page, 0.5)
    opacities = page.evaluate("['under', 'after'].map((id) => document.getElementById(id).style.opacity)")
    assert (opacities, page.inner_text("#strength-now")) == (["0.5", "0.5"], "50 %")
    assert "strength 50 %" in page.inner_text("#facts")
    done(page)
    assert not [path for path in asked if path.startswith("/api/")]  # it is mixed in the browser
    weaker = denoise_file(source, tmp_path / "weaker.png", strength=0.5)
    assert downloaded(page) == ("bridge_clean.png", Path(weaker.result).read_bytes())
    page.check("#noise-on")
    page.select_option("#preset", "")
    page.fill("#noise-text", "awgn(40)")
    page.press("#noise-text", "Tab")
    done(page)
    scores = {}
    for strength in (1, 0.5):
        slide(page, strength)
        expect(page.locator("#facts"), re.compile(rf"strength {100 * strength:.0f} %"))
        expect(page.locator("#facts"), re.compile(r"PSNR\s*\d+\.\d\d dB"))
        scores[strength] = page.inner_text("#facts dd >> nth=0")
    assert scores[1] != scores[0.5]


def test_nothing_is_changed_where_no_model_fits(page: Any, server: str) -> None:
    flat = np.full((96, 128, 3), 90, np.uint8)
    flat[30:60, 40:90] = 200
    ready(page, server)
    drop(page, "drawing.png", png(flat))
    page.wait_for_selector("#download:not([hidden])")
    assert page.inner_text("#tag-before") == "Nothing was changed"
    assert not page.is_visible("#divider")
    assert "Nothing was changed" in page.inner_text("#facts")
    done(page)
    assert downloaded(page)[1] == png(flat)


def test_a_refused_file_leaves_the_picture_and_its_result(page: Any, server: str) -> None:
    ready(page, server)
    page.set_viewport_size({"width": 390, "height": 844})
    drop(page, "bridge.png", png(noisy_picture()))
    done(page)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    for name, data, reason in (
        ("phone.heic", b"ftypheic", "Save it as JPEG first"),
        ("half.png", png(noisy_picture())[:3000], "a broken picture"),
        ("wide.png", png(np.zeros((4000, 5000), np.uint8)), "wide.png has 20 megapixels; the limit is 16."),
    ):
        drop(page, name, data, "")
        expect(page.locator("#alert"), re.compile(re.escape(reason)))
        box = page.locator("#alert").bounding_box()
        assert 0 <= box["y"] < 844
        assert page.is_visible("#viewer")
        assert page.inner_text("#what").startswith("bridge.png")
        assert page.is_visible("#download")
    page.click("#run")
    done(page)
    assert downloaded(page)[0] == "bridge_clean.png"


HAND_TEXT = """([how, type, text]) => {
  const transfer = new DataTransfer();
  transfer.setData(type, text);
  const said = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true };
  const event = how === "drop" ? new DragEvent(how, said) : new ClipboardEvent(how, said);
  document.getElementById("drop").dispatchEvent(event);
}"""


@pytest.mark.parametrize(
    "how, kind, text, advice",
    [
        ("drop", "text/uri-list", "https://example.org/a.jpg", "A link was dropped, not a picture. Save the picture"),
        ("drop", "text/plain", "a text", "Text was dropped, not a picture. Drop the file"),
        ("paste", "text/plain", "a text", "The clipboard holds no picture. Copy a picture"),
    ],
)
def test_what_is_no_file_says_what_to_do(page: Any, server: str, how: str, kind: str, text: str, advice: str) -> None:
    ready(page, server)
    page.evaluate(HAND_TEXT, [how, kind, text])
    expect(page.locator("#alert"), re.compile(f"^{re.escape(advice)}"))


def test_many_pictures_have_a_result_or_a_reason_each(page: Any, server: str, tmp_path: Path) -> None:
    pictures = {
        "a.png": png(noisy_picture()),
        "b.png": b"no picture",
        "c.png": png(noisy_picture(64, 80)),
        "d.png": png(np.full((64, 64, 3), 90, np.uint8)),
    }
    ready(page, server)
    files = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in pictures.items()]
    page.set_input_files("#file", files=[*files, files[0]])
    expect(page.locator("#queue-state"), re.compile("4 of 5 pictures denoised, 1 failed"))
    rows = page.locator("#queue-list small").all_inner_texts()
    assert rows[0].startswith("denoised with photo-")
    assert rows[1].startswith("not a picture")
    assert rows[3].startswith("nothing was changed: ")
    assert page.locator("#queue-list img[src]").count() == 4
    with page.expect_download() as started:
        page.click("#zip")
    with zipfile.ZipFile(started.value.path()) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a_clean.png", "c_clean.png", "d_clean.png", "a_clean (2).png"]
        (tmp_path / "c.png").write_bytes(pictures["c.png"])
        assert archive.read("c_clean.png") == Path(denoise_file(tmp_path / "c.png").result).read_bytes()
        assert archive.read("d_clean.png") == pictures["d.png"]
    page.click("#queue-list li:nth-child(3) .queued")
    expect(page.locator("#what"), re.compile("c.png, 80 × 64"))
    done(page)
    assert downloaded(page)[0] == "c_clean.png"
    assert not page.is_visible("#again")
    slide(page, 0.5)
    page.click("#again")
    expect(page.locator("#queue-state"), re.compile("4 of 5 pictures denoised, 1 failed"))
    assert page.locator("#queue-list small").all_inner_texts()[2].endswith(", strength 50 %")


def test_two_models_a_format_and_an_address(page: Any, server: str) -> None:
    ready(page, f"{server}?model=photo-s&noise=awgn(25)&seed=7&strength=0.8")
    assert page.is_checked("#noise-on")
    assert [page.input_value(at) for at in ("#model", "#noise-text", "#seed", "#strength")] == [
        *("photo-s", "awgn(25)", "7", "0.8")
    ]
    drop(page, "bridge.png", png(noisy_picture()))
    done(page)
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(page.url).query)
    assert query == {"model": ["photo-s"], "noise": ["awgn(25)"], "seed": ["7"], "strength": ["0.8"]}
    slide(page, 1)
    page.select_option("#left-of", "model-c")
    done(page)
    assert [page.inner_text(tag) for tag in ("#tag-before", "#tag-after")] == ["model-c", "photo-s"]
    assert page.is_visible("#other")
    assert re.search(r"Left of the divider\s+model-c", page.inner_text("#facts"))
    page.select_option("#format", "JPEG")
    sizes = []
    for quality in (90, 20):
        page.locator("#quality").fill(str(quality))
        name, data = downloaded(page)
        assert (name, Image.open(io.BytesIO(data)).format) == ("bridge_noisy_clean.jpg", "JPEG")
        sizes.append(len(data))
    assert sizes[1] < sizes[0] / 2
    page.click("#full")
    page.wait_for_selector("#full[aria-pressed=true]")
    page.click("#full")
    page.wait_for_selector("#full[aria-pressed=false]")


def test_a_question_mark_explains_a_term(page: Any, server: str) -> None:
    ready(page, server)
    page.select_option("#model", "photo-s")
    page.click("role=button[name='What is PSNR?']")
    assert "Peak signal-to-noise ratio" in page.inner_text(".bubble:popover-open")
    page.keyboard.press("Escape")
    assert page.locator(".bubble:popover-open").count() == 0


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
    page.wait_for_selector("#part:not([hidden])")  # what is visible comes first
    assert page.inner_text("#tag-after") == "Denoised part"
    assert not page.is_visible("#download")
    expect(page.locator("#doing"), re.compile(rf"Denoising: [1-9]\d* of {tiles} tiles, about \d+ (s|min) left"))
    longest, took = page.evaluate("[window.longest, performance.now() - window.began]")
    page.click("#cancel")
    page.wait_for_selector("#working", state="hidden")
    assert not page.is_visible("#alert")
    assert not page.is_visible("#part")
    assert page.is_enabled("#run")
    assert longest < max(1000, LONGEST_FRAME * took)


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


def test_no_fault_of_accessibility_at_any_width_or_colour(page: Any, server: str) -> None:
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
    else:
        page.check("#noise-on")
        drop(page, "flower.jpg", png(noisy_picture()))
    page.wait_for_selector("#download:not([hidden])")
    done(page)
    assert page.inner_text("#what").startswith("flower.jpg")
    assert page.is_checked("#noise-on")
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        for tab, shown in (("#tab-denoise", "#histograms svg"), ("#tab-runs", "#chart polyline")):
            page.click(tab)
            page.wait_for_selector(shown)
            _no_faults(page)


def _no_faults(page: Any) -> None:
    found = page.evaluate("axe.run().then((result) => result.violations)")
    assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found] == []
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
