"""The page in a real browser (Chromium, driven by Playwright), from a server and as static files."""

from __future__ import annotations

import base64
import io
import re
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import (
    HAND_TEXT,
    ONE_LOOK,
    done,
    downloaded,
    drop,
    expect,
    find_faults,
    hosted,
    noisy_picture,
    npm,
    paste,
    png,
    ready,
    served,
)
from PIL import Image

from daelab import denoise_file
from daelab.denoising.blending import limit_change
from daelab.denoising.noisy_images import identify_file_noise, write_noisy_file
from daelab.image_io.read import read_picture
from daelab.noise.grammar import parse_noise
from daelab.runs.ledger import Ledger
from daelab.web.about import list_samples
from daelab.web.static_page import RUNTIME, write_static_page

LONGEST_FRAME = 0.25
"""Between two frames while a large picture is worked on, as a part of the time that takes: a page that did it itself
would show none meanwhile, on however busy a machine."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three runs."""
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
    """Return the address of a server of this folder."""
    with served(place) as address:
        yield address


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
    assert page.inner_text("#inspection").startswith(str(identify_file_noise(source)))
    assert page.locator("#histograms svg").count() == 2

    page.focus("#strength")
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    done(page)
    assert page.inner_text("#strength-now") == "60%"
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
    """Move the divider by mouse and by keys; with zoom, both pictures move together."""
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
    """Return a picture in landscape format whose EXIF turns it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    Image.fromarray(noisy_picture()).save(stream, form, exif=exif, **options)
    return stream.getvalue()


SIDES = """(names) => Promise.all(names.map((id) => document.getElementById(id)).map(async (one) => {
  await one.decode?.();  // a picture may still load, unlike a canvas
  const canvas = new OffscreenCanvas(one.naturalWidth ?? one.width, one.naturalHeight ?? one.height);
  const context = canvas.getContext("2d");
  context.drawImage(one, 0, 0);
  const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
  return [height, width, btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""))];
}))"""


def read_pixels(page: Any, *names: str) -> list[np.ndarray]:
    """Return the pixels that these elements of the page show; a text is far faster than a list of numbers."""
    return [
        np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3]
        for height, width, data in page.evaluate(SIDES, names)
    ]


@pytest.mark.parametrize("host, form", [("server", "JPEG"), ("server", "TIFF"), ("still", "JPEG")])
def test_original_and_result_stand_upright_alike(
    page: Any, host: str, form: str, request: pytest.FixtureRequest
) -> None:
    ready(page, request.getfixturevalue(host))
    page.select_option("#model", "model-c")
    # A TIFF takes the same way through the page, and on the static page the browser turns: two turns suffice.
    orientations = tuple(range(1, 9)) if (host, form) == ("server", "JPEG") else (5, 6)
    media = f"image/{form.lower()}"
    files = [{"name": f"turned-{at}.{form}", "mimeType": media, "buffer": turned(at, form)} for at in orientations]
    page.set_input_files("#file", files=files)
    expect(page.locator("#queue-state"), re.compile(f"{len(files)} of {len(files)} pictures denoised"))
    for place, orientation in enumerate(orientations, 1):
        upright = Image.fromarray(noisy_picture())
        if orientation in TURNS:
            upright = upright.transpose(TURNS[orientation])
        page.click(f"#queue-list li:nth-child({place}) .queued")
        expect(page.locator("#what"), re.compile(f"turned-{orientation}.{form}"))
        page.wait_for_selector("#download:not([hidden])")
        sides = [side.astype(float) for side in read_pixels(page, "before", "after")]
        assert sides[0].shape == sides[1].shape == np.asarray(upright).shape
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
    if list_samples():
        page.click("[data-sample=cat]")
        page.wait_for_selector("#download:not([hidden])")
    else:
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
    assert page.inner_text("#strength-now") == "100%"
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


def test_the_static_page_chooses_a_model_and_flags_one_that_does_not_fit(page: Any, still: str) -> None:
    ready(page, still)
    assert "does not leave this browser" in page.inner_text("#promise")
    drop(page, "bridge.png", png(noisy_picture()))
    page.wait_for_selector("#download:not([hidden])")
    assert page.input_value("#model") == "automatic"
    assert "\nphoto-s\n" in page.inner_text("#facts")
    assert not page.is_visible(".warning")
    page.select_option("#model", "model-c")
    assert "was made for the paper's noise" in page.inner_text(".warning")
    find_faults(page, "static page", ONE_LOOK)
    page.click("text=Use photo-s instead")
    done(page)
    assert page.input_value("#model") == "photo-s"
    assert not page.is_visible(".warning")
    drop(page, "flat.png", png(flat_picture()))
    page.wait_for_selector("#download:not([hidden])")
    expect(page.locator("#tag-before"), re.compile("Nothing was changed"))
    assert downloaded(page) == ("flat_clean.png", png(flat_picture()))


IDENTIFY = """async ([root, name, data]) => {
  const { Backend } = await import(`${root}static/backend.js`);
  window.backend ??= new Backend("local", "", null);
  const file = new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type: "image/png" });
  return window.backend.call("inspect", { picture: file });
}"""


def test_the_static_page_identifies_noise_as_the_command_line_does(page: Any, still: str) -> None:
    """The pictures have many tiles, one, or less than one, and are like those of cameras and of computers."""
    ready(page, still)
    rng = np.random.default_rng(1)
    smooth = np.asarray(Image.fromarray(noisy_picture(6, 8)).resize((200, 288), Image.Resampling.BICUBIC), float)
    noisy = {
        level: (smooth + rng.normal(0, level, smooth.shape)).clip(0, 255).astype(np.uint8) for level in (0, 30, 90)
    }
    pictures = {
        **{f"level-{level}": noisy[level] for level in noisy},
        "brighter": (smooth + rng.normal(50, 25, smooth.shape)).clip(0, 255).astype(np.uint8),
        "gray": np.repeat(noisy[30][:137, :90, :1], 3, axis=2),
        "tiny": noisy[30][:21, :17],
        "drawn": flat_picture(),
    }
    strong = identify_file_noise(read_picture(png(noisy[90])))
    assert strong.deviation == pytest.approx(255 * strong.effect.level)  # as the noise identifier estimates it
    for name, pixels in pictures.items():
        data = png(pixels)
        answer = page.evaluate(IDENTIFY, [still, f"{name}.png", base64.b64encode(data).decode()])
        identified = identify_file_noise(read_picture(data))
        noise = identified.to_dict()
        assert answer["text"] == str(identified)
        assert (name, answer["family"], answer["graphics"]) == (name, noise["family"], noise["graphics"])
        # The page has two models of all: its best for photographs is another one.
        assert (answer["choice"] is None) == (noise["choice"] is None), name
        assert ("model-c" in answer["models"]) == ("model-c" in noise["models"]), name
        for key in ("confidence", "level", "gain", "offset", "sigma", "expected_gain"):
            assert answer[key] == pytest.approx(noise[key], abs=2e-3), (name, key)


LIMIT = """async ([root, source, result, deviation]) => {
  const { decode, limitChange } = await import(`${root}static/pixels.js`);
  const open = (data) => decode(new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], { type: "image/png" }));
  return [...limitChange(await open(source), await open(result), deviation).data];
}"""


def test_the_static_page_removes_no_more_than_the_noise_that_was_found(page: Any, still: str) -> None:
    ready(page, still)
    source = noisy_picture(32, 40)
    change = np.random.default_rng(0).normal(0, 2, source.shape).round()
    changes = {"the whole change": 3.0, "a part of it": 1.2}
    for name, deviation in changes.items():
        result = (source + change).clip(0, 255).astype(np.uint8)
        given = [base64.b64encode(png(pixels)).decode() for pixels in (source, result)]
        limited = np.reshape(page.evaluate(LIMIT, [still, *given, deviation]), (32, 40, 4))[..., :3]
        expected = limit_change(source, result, deviation)
        assert np.array_equal(expected, result) == (name == "the whole change")
        assert np.abs(limited - expected.astype(int)).max() <= (deviation < 2), name  # halves may be rounded otherwise


STATIC_MODELS = ("photo-s", "model-c")


def flat_picture() -> np.ndarray:
    flat = np.full((96, 128, 3), 90, np.uint8)
    flat[30:60, 40:90] = 200
    return flat


def test_the_static_page_works_without_a_host_after_a_reload(page: Any, site: Path) -> None:
    with hosted(site) as address:
        ready(page, address)
        page.evaluate("navigator.serviceWorker.ready.then(() => {})")
        page.reload()
        page.wait_for_selector("html[data-ready]")
        assert page.evaluate("Boolean(navigator.serviceWorker.controller)")
    # The host is gone.
    page.goto(f"{address}?model=photo-s")
    page.wait_for_selector("html[data-ready]")
    drop(page, "bridge.png", png(noisy_picture()))
    page.wait_for_selector("#download:not([hidden])")
    assert " of 255" in page.inner_text("#inspection")


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
    assert (opacities, page.inner_text("#strength-now")) == (["0.5", "0.5"], "50%")
    assert "strength 50%" in page.inner_text("#facts")
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
        expect(page.locator("#facts"), re.compile(rf"strength {100 * strength:.0f}%"))
        expect(page.locator("#facts"), re.compile(r"PSNR\s*\d+\.\d\d dB"))
        scores[strength] = page.inner_text("#facts dd >> nth=0")
    assert scores[1] != scores[0.5]


def test_colors_and_detail_are_shown_told_and_saved_alike(page: Any, server: str, tmp_path: Path) -> None:
    source = tmp_path / "bridge.png"
    source.write_bytes(png(noisy_picture()))

    def wanted(**settings: float) -> np.ndarray:
        result = denoise_file(source, tmp_path / "wanted.png", overwrite=True, **settings).result
        return np.asarray(Image.open(result)).astype(int)

    ready(page, f"{server}?strength=0.5&chroma=1")
    drop(page, source.name, source.read_bytes())
    page.wait_for_selector("#painted:not([hidden])")
    done(page)
    pixels = wanted(strength=0.5, chroma=1)
    assert np.abs(read_pixels(page, "painted")[0] - pixels).max() <= 1  # the steps of 8 bits of the full result
    assert "strength 50%, colors 100%" in page.inner_text("#facts")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(downloaded(page)[1]))), pixels)
    page.locator("#strength").fill("1")  # both alike
    assert not page.is_visible("#painted")
    page.locator("#detail").fill("0.5")
    done(page)
    pixels = wanted(detail=0.5)
    assert "strength 100%, detail 50%" in page.inner_text("#facts")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(downloaded(page)[1]))), pixels)
    assert np.array_equal(read_pixels(page, "after")[0], pixels)
    assert "detail=0.5" in page.url
    for slider, value in (("#strength", "0.6"), ("#chroma", "0.9"), ("#detail", "0.35")):
        page.locator(slider).fill(value)
    expect(page.locator("#facts"), re.compile("strength 60%, colors 90%, detail 35%"))
    done(page)
    data = downloaded(page)[1]
    pixels = wanted(strength=0.6, chroma=0.9, detail=0.35)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert np.array_equal(read_pixels(page, "after")[0], pixels)
    page.locator("#strength").fill("1")
    page.locator("#chroma").fill("1")
    page.locator("#detail").fill("0")
    done(page)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(downloaded(page)[1]))), wanted())


def test_nothing_is_changed_where_no_model_fits(page: Any, server: str) -> None:
    ready(page, server)
    drop(page, "drawing.png", png(flat_picture()))
    page.wait_for_selector("#download:not([hidden])")
    assert page.inner_text("#tag-before") == "Nothing was changed"
    assert not page.is_visible("#divider")
    assert "Nothing was changed" in page.inner_text("#facts")
    done(page)
    assert downloaded(page)[1] == png(flat_picture())


HAND_LARGE = """() => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([new Uint8Array(140e6)], "huge.png", { type: "image/png" }));
  const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
  document.getElementById("drop").dispatchEvent(event);
}"""


def test_a_refused_file_leaves_the_picture_and_its_result(page: Any, server: str) -> None:
    ready(page, server)
    page.set_viewport_size({"width": 390, "height": 844})
    drop(page, "bridge.png", png(noisy_picture()))
    done(page)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.evaluate(HAND_LARGE)
    expect(page.locator("#alert"), re.compile("huge.png has 140 MB; the limit is 128 MB."))
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


def test_what_is_no_file_says_what_to_do(page: Any, server: str) -> None:
    ready(page, server)
    for how, kind, text, advice in (
        ("drop", "text/uri-list", "https://example.org/a.jpg", "A link was dropped, not a picture. Save the picture"),
        ("drop", "text/plain", "a text", "Text was dropped, not a picture. Drop the file"),
        ("paste", "text/plain", "a text", "The clipboard holds no picture. Copy a picture"),
    ):
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
    assert page.locator("#queue-list small").all_inner_texts()[2].endswith(", strength 50%")


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
    # What is left of the divider has one name.
    assert page.inner_text("#tag-before") == page.locator("#left-of option").first.text_content() == "Noisy"
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


@pytest.mark.parametrize("host, tiles", [("server", 24), ("still", 192)])
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
    data = io.BytesIO()
    Image.fromarray(large).save(data, "PNG", compress_level=1)  # a second faster
    page.set_input_files("#file", files=[{"name": "large.png", "mimeType": "image/png", "buffer": data.getvalue()}])
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
        find_faults(page, "wrong token", ONE_LOOK)
        page.focus("#token")
        page.keyboard.press("Control+a")
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
        ready(page, f"{address}?model=photo-s#token={token}")
        assert token not in page.evaluate("location.href")
        assert page.input_value("#model") == "photo-s"  # the settings of the address stay
        assert not page.is_visible("#token-dialog")


def test_no_fault_of_accessibility_in_any_state(page: Any, server: str) -> None:
    ready(page, server)
    find_faults(page, "empty")
    page.evaluate(HAND_TEXT, ["drop", "text/plain", "a text"])
    find_faults(page, "refused")
    if list_samples():
        page.click("[data-sample=dahlia]")
    else:
        page.check("#noise-on")
        drop(page, "flower.jpg", png(noisy_picture()))
    page.wait_for_selector("#download:not([hidden])")
    done(page)
    assert page.inner_text("#what").startswith("flower.jpg")
    assert page.is_checked("#noise-on")
    page.wait_for_selector("#histograms svg")
    find_faults(page, "sample with noise")
    drop(page, "bridge.png", png(noisy_picture()))
    done(page)
    page.select_option("#model", "model-c")
    page.select_option("#left-of", "photo-s")
    page.select_option("#format", "JPEG")
    page.click("#inspection summary")
    done(page)
    page.click("role=button[name='What is MACs?']")
    page.wait_for_selector("#other:not([hidden])")
    assert page.inner_text("#tag-before") == "photo-s"
    assert page.is_visible(".warning")
    assert page.is_visible(".bubble:popover-open")
    find_faults(page, "two models, a warning and an explanation")
    page.keyboard.press("Escape")
    page.click("#full")
    page.wait_for_selector("#full[aria-pressed=true]")
    find_faults(page, "full view", ONE_LOOK)
    page.click("#full")
    page.wait_for_selector("#full[aria-pressed=false]")
    drop(page, "drawing.png", png(flat_picture()))
    expect(page.locator("#tag-before"), re.compile("Nothing was changed"))
    done(page)
    find_faults(page, "nothing changed", ONE_LOOK)
    page.set_input_files(
        "#file",
        files=[
            {"name": name, "mimeType": "image/png", "buffer": data}
            for name, data in (("a.png", png(noisy_picture(40, 50))), ("b.png", b"no picture"))
        ],
    )
    expect(page.locator("#queue-state"), re.compile("1 of 2 pictures denoised, 1 failed"))
    done(page)
    find_faults(page, "many pictures")


def test_no_fault_of_accessibility_while_the_page_works(page: Any, server: str) -> None:
    ready(page, server)
    page.select_option("#model", "dae-l")
    drop(page, "large.png", png(np.tile(noisy_picture(), (12, 12, 1))))
    page.wait_for_selector("#part:not([hidden])")
    find_faults(page, "at work")
    page.click("#another")


def test_settings_that_change_together_are_all_taken_up(page: Any, server: str) -> None:
    ready(page, server)
    drop(page, "bridge.png", png(noisy_picture()))
    page.wait_for_selector("#download:not([hidden])")
    done(page)
    page.select_option("#model", "model-c")  # needs another result, which begins after a moment
    page.select_option("#format", "JPEG")
    slide(page, 0.5)  # changes only what is shown of the last result
    expect(page.locator("#facts"), re.compile("model-c"))
    done(page)
    assert "strength 50%" in page.inner_text("#facts")
    assert downloaded(page)[0] == "bridge_clean.jpg"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as static files."""
    folder = tmp_path_factory.mktemp("page") / "site"
    write_static_page(folder, STATIC_MODELS, runtime=npm(RUNTIME))
    return folder


@pytest.fixture(scope="module")
def still(site: Path) -> Iterator[str]:
    """Return the address of the page as static files, on a host without daelab."""
    with hosted(site) as address:
        yield address


def test_the_static_page_gives_the_picture_of_the_command_line(page: Any, still: str, tmp_path: Path) -> None:
    source = tmp_path / "bridge.png"
    source.write_bytes(png(noisy_picture(300, 530)))  # of several tiles, of no multiple
    ready(page, f"{still}?model=model-c")
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
    """Return the PSNR of the denoised and the noisy picture as the command line prints it."""
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
    find_faults(page, "static page, refused", ONE_LOOK)
